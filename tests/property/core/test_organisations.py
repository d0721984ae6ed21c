"""Limits of organisations over whole logs: borders, restarts and the slow count."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.property.core.test_limits_of_a_log import a_few, borders, ways
from tests.support.core_runner import CoreMeter, batches, contents_of, read_table
from tests.support.events import START_US
from tests.support.model import HOUR_US
from tests.support.organisations import QUARTER_US, SlowCount, Told, limit, records_of

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import EventBatch, Policy, next_batch

POLICY = Policy(1, horizon_us=30 * 24 * HOUR_US, owners="organisations")
NOW_US = START_US + 100 * HOUR_US
LIMITS = [
    (organisation, measure, window, amount)
    for organisation in ("o-1", "o-2")
    for measure, amount in (("credits", 900), ("runs", 12), ("sessions", 3))
    for window in ("day", "month")
]


def make_events(seed: int, size: int) -> list[Told]:
    """Return a log: teams of two organisations, late quarters, resends and things taken back."""
    rng = random.Random(seed)
    found: list[Told] = []
    at_us = START_US
    for i in range(size):
        at_us += rng.choice((0, 1_000_000, 600_000_000, 2 * HOUR_US))
        if found and rng.random() < 0.1:
            again = rng.choice(found)
            found.append(again)
            continue
        corrects = rng.random() < 0.2
        sign = -1 if corrects else 1
        quarters = sorted(rng.sample(range(100), rng.randint(1, 3)))
        uses = tuple(
            (
                at_us // QUARTER_US * QUARTER_US - quarter * QUARTER_US,
                (
                    sign * rng.randint(0, 200),
                    sign * rng.randint(0, 50),
                    sign * rng.randint(0, 3),
                    0,
                    sign * rng.randint(0, 1),
                ),
            )
            for quarter in reversed(quarters)
        )
        found.append(
            Told(
                rng.choice(("o-1", "o-2")), rng.choice(("t-1", "t-2", "t-3")), f"e-{i}", at_us,
                uses, corrects, rng.randint(0, 2), i, rng.random() < 0.3,
            )
        )  # fmt: skip
    return found


logs = st.builds(make_events, st.integers(0, 10_000), st.integers(1, 40))


def run(events: list[Told], cuts: list[int], restarts: list[str | None]) -> CoreMeter:
    """Return a meter of organisations that has counted the events."""
    meter = CoreMeter(POLICY, 0, clock_us=START_US)
    entries = [limit(i, *one, START_US - 100 * HOUR_US) for i, one in enumerate(LIMITS)]
    meter.step(None, NOW_US, (), entries)
    for i, batch in enumerate(batches(records_of(events), cuts)):
        waiting: EventBatch | None = batch
        while waiting is not None:
            part, waiting = next_batch(meter.state, waiting)
            meter.step(part, NOW_US)
        how = restarts[i % len(restarts)] if restarts else None
        if how is not None:
            meter.restart(how)
    return meter


def told_by(meter: CoreMeter) -> tuple[list[dict[str, Any]], dict[tuple[Any, ...], int]]:
    """Return the crossings of a journal, and what was used by organisation, limit and window."""
    crossings: list[dict[str, Any]] = []
    used: dict[tuple[Any, ...], int] = {}
    for _, _, _, value in meter.journal:
        sections = unpack_sections(value)
        crossings += json.loads(bytes(sections.get(Section.CROSSINGS, b"[]")))
        if Section.LIMIT_STATES in sections:
            for row in read_table(sections[Section.LIMIT_STATES]):
                assert row["subject"] == "organisation"
                place = row["team_id"], row["limit_id"], row["window_start"]
                used[place] = row["used"]
    return crossings, used


@given(logs, borders, ways)
@a_few
def test_they_agree_with_the_slow_count(
    events: list[Told], cuts: list[int], restarts: list[str | None]
) -> None:
    """Totals, levels and the events that reached them are those of a plain count of the log."""
    meter, slow = run(events, cuts, restarts), SlowCount(LIMITS)
    for offset, event in enumerate(events):
        slow.take(offset, event)
    crossings, used = told_by(meter)
    assert {
        (*place[:1], f"{place[1]}-{place[2]}", _us(place[3])): amount
        for place, amount in slow.used.items()
        if amount
    } == {place: amount for place, amount in used.items() if amount}
    reached = [one for one in crossings if one["kind"] == "reached"]
    assert len(reached) == len(slow.reached)
    assert {
        (one["organisation_id"], one["limit_id"], one["window_start_us"], one["level_permille"]):
        one["cause"]["offset"]
        for one in reached
    } == {
        (org, f"{measure}-{window}", _us(start), level): offset
        for (org, measure, window, start, level), offset in slow.reached.items()
    }  # fmt: skip
    for one in reached:
        assert one["cause"]["team_id"] == events[one["cause"]["offset"]].team
        assert "team_id" not in one
    counted = {p: one.events_position for p, one in meter.state.counted.items()}
    assert counted == slow.counted
    verdicts = meter.reader.counted.verdicts
    assert sum(one is Verdict.COUNTED for one in verdicts.values()) == len(slow.known)


@given(logs, borders, borders)
@a_few
def test_borders_make_no_difference(events: list[Told], some: list[int], others: list[int]) -> None:
    """Two meters that cut one log differently tell the same levels and totals."""
    first, second = (told_by(run(events, cuts, [])) for cuts in (some, others))
    for mine, yours in zip(first, second, strict=True):
        if isinstance(mine, list) and isinstance(yours, list):
            assert _reached(mine) == _reached(yours)
        else:
            assert mine == yours


@given(logs, borders, ways)
@a_few
def test_restarts_make_no_difference(
    events: list[Told], cuts: list[int], restarts: list[str | None]
) -> None:
    """A meter that restarts, from its journal or a snapshot, writes the very same records."""
    steady, restarted = run(events, cuts, []), run(events, cuts, restarts)
    assert [record[2:] for record in restarted.journal] == [r[2:] for r in steady.journal]
    assert contents_of(restarted.state) == contents_of(steady.state)
    assert restarted.state.counted == steady.state.counted


def _reached(crossings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        (one for one in crossings if one["kind"] == "reached"),
        key=lambda one: json.dumps(one, sort_keys=True),
    )


def _us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
