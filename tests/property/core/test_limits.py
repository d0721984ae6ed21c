"""Limits are reached by the same events as in a slow count, wherever a batch begins or ends."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.budget import share

from meterstream.schemas.control import LimitSetData
from meterstream.schemas.times import from_us
from meterstream.streams.core.cells import CellKey
from meterstream.streams.core.limits import (
    Limit,
    LimitKey,
    Limits,
    Uses,
    decide,
    set_limits,
    with_stands,
)
from meterstream.streams.core.policy import DAY_US, HOUR_US, MINUTE_US
from meterstream.streams.core.totals import MEASURES, Totals
from meterstream.streams.core.windows import Window

START_US = 1_771_000_000_000_000  # 13 February 2026: a month's end is near
ZONES = {"a": "Europe/Berlin", "b": "America/St_Johns", "c": "UTC"}
SUBJECTS = (("team", ""), ("user", "u1"), ("agent", "x"), ("project", "p"), ("feature", "f"))

a_few = settings(max_examples=share(150), deadline=None)


@dataclass(frozen=True)
class Use:
    """One event: when, of whom, and how much of each measure."""

    minute: int
    key: tuple[str, ...]
    amounts: tuple[int, ...]

    @property
    def cell(self) -> CellKey:
        """The cell it belongs to."""
        team, user, project, agent, feature = self.key
        start = START_US // 1_000_000 // 60 * 60 + self.minute * 60
        return (start, team, user, project, agent, "m", "", feature, "", "agent_run")


uses_of = st.lists(
    st.builds(
        Use,
        st.integers(0, 20 * 24 * 60),
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(("", "u1", "u2")),
            st.sampled_from(("", "p")),
            st.sampled_from(("", "x", "y")),
            st.sampled_from(("", "f")),
        ),
        st.tuples(*(st.sampled_from((0, 1, 7, 100)) for _ in MEASURES)),
    ),
    min_size=1,
    max_size=60,
)
limits_of = st.lists(
    st.builds(
        lambda team, subject, measure, window, amount, levels, enforcement: LimitSetData(
            team_id=team,
            limit_id=f"{subject[0]}-{measure}-{window}-{amount}",
            version=1,
            subject=subject[0],
            subject_id=subject[1] or None,
            measure=measure,
            window=window,
            amount=amount,
            alert_levels_permille=tuple(sorted(levels)),
            enforcement=enforcement,
        ),
        st.sampled_from("abc"),
        st.sampled_from(SUBJECTS),
        st.sampled_from(MEASURES),
        st.sampled_from(("day", "month")),
        st.sampled_from((0, 1, 3, 50, 200)),
        st.sets(st.sampled_from((1, 500, 800, 1000, 1500)), max_size=3),
        st.sampled_from(("hard", "soft")),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda data: (data.team_id, data.limit_id),
)
cuts_of = st.lists(st.integers(0, 60), max_size=8)


def local_window(data: LimitSetData, use: Use) -> str:
    """Return the day or month in which the limit counts a use, as its team's calendar names it."""
    local = from_us(use.cell[0] * 1_000_000).astimezone(ZoneInfo(ZONES[use.key[0]]))
    return local.strftime("%Y-%m-%d" if data.window == "day" else "%Y-%m")


def concerns(data: LimitSetData, use: Use) -> bool:
    """Tell whether a limit counts a use."""
    team, user, project, agent, feature = use.key
    names = {"team": "", "user": user, "project": project, "agent": agent, "feature": feature}
    return team == data.team_id and names[data.subject] == (data.subject_id or "")


def count_slowly(
    limits: list[LimitSetData], uses: list[Use]
) -> tuple[set[tuple[str, str, str, int, int, int]], Counter[tuple[str, str, str]]]:
    """Return each crossing and the final totals, one use and one limit at a time."""
    used: Counter[tuple[str, str, str]] = Counter()
    crossed: set[tuple[str, str, str, int]] = set()
    crossings: set[tuple[str, str, str, int, int, int]] = set()
    for at, use in enumerate(uses):
        for data in limits:
            added = use.amounts[MEASURES.index(data.measure)]
            if not added or not concerns(data, use):
                continue
            place = (str(data.team_id), data.limit_id, local_window(data, use))
            used[place] += added
            levels = {*data.alert_levels_permille} | (
                {1000} if data.enforcement == "hard" else set()
            )
            for level in levels:
                if used[place] * 1000 >= data.amount * level and (*place, level) not in crossed:
                    crossed.add((*place, level))
                    crossings.add((*place, level, used[place], at))
    return crossings, used


def name_of(limit: Limit, window: Window) -> str:
    """Return a window as `local_window` names it."""
    local = from_us(window.start_us + HOUR_US).astimezone(ZoneInfo(ZONES[limit.key[0]]))
    return local.strftime("%Y-%m-%d" if window.kind == "day" else "%Y-%m")


@given(limits_of, uses_of, cuts_of)
@a_few
def test_borders_make_no_difference(
    definitions: list[LimitSetData], uses: list[Use], cuts: list[int]
) -> None:
    """Each level is crossed once, by the event at which a slow count comes to it."""
    limits = Limits({limit.key: limit for limit in (Limit(data, 0) for data in definitions)})
    totals = Totals()
    reached: dict[Window, dict[LimitKey, int]] = {}
    crossings: list[tuple[str, str, str, int, int, int]] = []
    stands: dict[tuple[str, str, str], int] = {}
    borders = sorted({0, len(uses), *(cut for cut in cuts if cut < len(uses))})
    for first, last in pairwise(borders):
        part = uses[first:last]
        index: dict[CellKey, int] = {}
        cell = np.array([index.setdefault(use.cell, len(index)) for use in part], np.int64)
        batch = Uses(list(index), cell, np.array([use.amounts for use in part], np.int64))
        used = totals.by_window(batch.keys, batch.totals(), ZONES.__getitem__)
        decided = decide(limits, reached, totals, used, batch)
        for crossing in decided.crossings:
            assert crossing.at is not None
            name = name_of(crossing.limit, crossing.window)
            crossings.append(
                (
                    *crossing.limit.key,
                    name,
                    crossing.level_permille,
                    crossing.used,
                    first + crossing.at,
                )
            )
        for one in decided.standings:
            reached = with_stands(reached, one.stands())
            amounts = zip(one.rows.tolist(), one.used.tolist(), one.blocked.tolist(), strict=True)
            for row, amount, is_blocked in amounts:
                limit = one.index.limits[row]
                stands[(*limit.key, name_of(limit, one.window))] = amount
                is_over = limit.data.enforcement == "hard" and amount >= limit.data.amount
                assert is_blocked == is_over
        totals.add(used)
    expected, expected_used = count_slowly(definitions, uses)
    assert len(set(crossings)) == len(crossings)
    assert set(crossings) == expected
    assert stands == +expected_used
    assert [at for *_, at in crossings] == sorted(at for *_, at in crossings)


@given(limits_of, uses_of)
@a_few
def test_a_limit_that_is_set_later_knows_what_was_used(
    definitions: list[LimitSetData], uses: list[Use]
) -> None:
    """It stands where it would have stood, had it always been there, in the windows of now."""
    totals = Totals()
    index: dict[CellKey, int] = {}
    cell = np.array([index.setdefault(use.cell, len(index)) for use in uses], np.int64)
    batch = Uses(list(index), cell, np.array([use.amounts for use in uses], np.int64))
    totals.add(totals.by_window(batch.keys, batch.totals(), ZONES.__getitem__))
    clock_us = max(use.cell[0] for use in uses) * 1_000_000 + MINUTE_US
    limits = [Limit(data, clock_us) for data in definitions]
    found = set_limits(limits, totals, ZONES.__getitem__, clock_us)
    _, used = count_slowly(definitions, uses)
    assert sum(len(one.rows) for one in found.standings) == len(limits)
    for one in found.standings:
        assert one.window.start_us <= clock_us < one.window.end_us
        for row, amount in zip(one.rows.tolist(), one.used.tolist(), strict=True):
            limit = one.index.limits[row]
            assert amount == used[(*limit.key, name_of(limit, one.window))]
    for crossing in found.crossings:
        amount = crossing.limit.data.amount * crossing.level_permille
        assert (crossing.at, crossing.used * 1000 >= amount) == (None, True)
    totals.forget(clock_us + 40 * DAY_US)
    assert list(totals.items()) == []


def test_zones_of_the_windows() -> None:
    """A window begins at midnight of its team's zone."""
    key: CellKey = (START_US // 1_000_000 // 60 * 60, "a", "", "", "", "", "", "", "", "agent_run")
    found = Totals().by_window([key], np.ones((1, len(MEASURES)), np.int64), ZONES.__getitem__)
    starts = {
        window.kind: from_us(window.start_us).astimezone(ZoneInfo("Europe/Berlin"))
        for window in found
    }
    assert starts == {
        "day": datetime(2026, 2, 13, tzinfo=ZoneInfo("Europe/Berlin")),
        "month": datetime(2026, 2, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    }
