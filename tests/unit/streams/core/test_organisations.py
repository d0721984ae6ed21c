"""Single records of organisations: what is told, what is too old, and what is refused."""

import json
from dataclasses import replace

import pytest
from tests.support.core_runner import CoreMeter, read_table
from tests.support.model import DAY_US, HOUR_US
from tests.support.organisations import QUARTER_US, Told, limit, records_of

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import EventBatch, Policy, compute_step, next_batch

MIDNIGHT_US = 1_767_312_000_000_000
"""2026-01-02T00:00:00Z"""


def batch_of(*events: Told, start: int = 0) -> EventBatch:
    """Return them as one batch."""
    records = records_of(events)
    return EventBatch(
        start,
        start + len(records),
        [start + record.offset for record in records],
        [record.log_time_us for record in records],
        [record.value for record in records],
    )


def used(name: str, at_us: int, quarter_us: int, runs: int = 1, *, corrects: bool = False) -> Told:
    """Return what a team of `o` used."""
    return Told("o", "t", name, at_us, ((quarter_us, (0, 0, runs, 0, 0)),), corrects)


def meter_with_limit(*, policy: Policy | None = None) -> CoreMeter:
    """Return a meter with a limit of 2 runs a day."""
    meter = CoreMeter(policy or Policy(1, owners="organisations"), 0, clock_us=MIDNIGHT_US)
    long_ago_us = MIDNIGHT_US - 10 * DAY_US
    meter.step(None, MIDNIGHT_US, (), [limit(0, "o", "runs", "day", 2, long_ago_us)])
    return meter


def test_without_limits_usage_is_still_counted() -> None:
    """What is used before a limit is set is part of what it begins with."""
    meter = CoreMeter(Policy(1, owners="organisations"), 0, clock_us=MIDNIGHT_US)
    step = meter.step(batch_of(used("a", MIDNIGHT_US, MIDNIGHT_US, 3)), MIDNIGHT_US)
    sections = unpack_sections(step.value)
    assert not sections.keys() & {Section.LIMIT_STATES, Section.CROSSINGS}
    (row,) = read_table(sections[Section.ORGANISATION_USAGE])
    assert (row["organisation_id"], row["quarter_start"], row["runs"]) == ("o", MIDNIGHT_US, 3)
    step = meter.step(None, MIDNIGHT_US, (), [limit(0, "o", "runs", "day", 2, MIDNIGHT_US)])
    sections = unpack_sections(step.value)
    kinds = [one["kind"] for one in json.loads(bytes(sections[Section.CROSSINGS]))]
    assert kinds == ["reached", "reached", "reached", "blocked"]


@pytest.mark.parametrize(("early_us", "is_told"), [(0, False), (1_000_000, True)])
def test_windows_that_are_over_are_not_told(early_us: int, is_told: bool) -> None:
    """A day is left out from the moment on that it ended as long ago as the horizon reaches."""
    policy = Policy(1, horizon_us=DAY_US, owners="organisations")
    for corrects in (False, True):
        meter = meter_with_limit(policy=policy)
        now_us = MIDNIGHT_US + 2 * DAY_US - early_us
        meter.step(batch_of(used("a", now_us, now_us // QUARTER_US * QUARTER_US)), now_us)
        noon_us = MIDNIGHT_US + 12 * HOUR_US
        event = used("b", now_us, noon_us, -1 if corrects else 1, corrects=corrects)
        step = meter.step(batch_of(event, start=1), now_us)
        sections = unpack_sections(step.value)
        told = sections.get(Section.LIMIT_STATES)
        rows = [] if told is None else read_table(told)
        assert any(row["window_start"] == MIDNIGHT_US for row in rows) is is_told
        assert Section.ORGANISATION_USAGE in sections


def test_a_batch_is_divided_before_a_correction_that_follows_usage() -> None:
    """A step begins with its corrections; nobody can ask for another order."""
    meter = meter_with_limit()
    events = [
        used("a", MIDNIGHT_US, MIDNIGHT_US, -1, corrects=True),
        used("b", MIDNIGHT_US, MIDNIGHT_US, 2),
        used("c", MIDNIGHT_US, MIDNIGHT_US, 1),
        used("d", MIDNIGHT_US, MIDNIGHT_US, -1, corrects=True),
        used("e", MIDNIGHT_US, MIDNIGHT_US, 1),
    ]
    whole = batch_of(*events)
    first, rest = next_batch(meter.state, whole)
    assert (first.start, first.end) == (0, 3)
    assert rest is not None
    assert (rest.start, rest.end) == (3, 5)
    assert next_batch(meter.state, rest) == (rest, None)
    with pytest.raises(ValueError, match="a correction comes after usage"):
        compute_step(meter.state, whole, now_us=MIDNIGHT_US)


def test_an_organisation_of_another_partition_is_refused() -> None:
    """It would be counted twice, or without its limits."""
    policy = Policy(4, owners="organisations")
    home = partition_of("o", 4)
    for partition in range(4):
        meter = CoreMeter(policy, partition, clock_us=MIDNIGHT_US)
        meter.step(batch_of(used("a", MIDNIGHT_US, MIDNIGHT_US)), MIDNIGHT_US)
        expected = Verdict.COUNTED if partition == home else Verdict.WRONG_PARTITION
        assert meter.reader.counted.verdicts == {0: expected}


def test_a_window_that_begins_admits_again() -> None:
    """A hard limit that blocked is reset when the next day begins by the clock."""
    meter = meter_with_limit()
    step = meter.step(batch_of(used("a", MIDNIGHT_US, MIDNIGHT_US, 2)), MIDNIGHT_US)
    told = json.loads(bytes(unpack_sections(step.value)[Section.CROSSINGS]))
    assert [one["kind"] for one in told] == ["reached"] * 3 + ["blocked"]
    assert {one["cause"]["team_id"] for one in told} == {"t"}
    next_day_us = MIDNIGHT_US + DAY_US
    step = meter.step(batch_of(used("b", next_day_us, next_day_us), start=1), next_day_us)
    told = json.loads(bytes(unpack_sections(step.value)[Section.CROSSINGS]))
    assert [(one["kind"], one.get("reason")) for one in told] == [
        ("reset", "window"),
        ("reached", None),
    ]
    assert {one["organisation_id"] for one in told} == {"o"}


def test_corrections_are_known_however_they_are_written() -> None:
    """White space within the JSON makes no difference to where a batch is divided."""
    meter = meter_with_limit()
    whole = batch_of(
        used("a", MIDNIGHT_US, MIDNIGHT_US),
        used("b", MIDNIGHT_US, MIDNIGHT_US),
        used("c", MIDNIGHT_US, MIDNIGHT_US, -1, corrects=True),
    )
    for separators in ((",", ":"), (", ", ": "), (" , ", " : ")):
        values = [
            json.dumps(json.loads(value), separators=separators).encode()
            for value in whole.values
            if value is not None
        ]
        first, rest = next_batch(meter.state, replace(whole, values=values))
        assert rest is not None
        assert (first.end, rest.end) == (2, 3)
