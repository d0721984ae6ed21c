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
from meterstream.streams.core.crossings import Decided
from meterstream.streams.core.deciding import Decision, Spent
from meterstream.streams.core.limit_index import Limits
from meterstream.streams.core.limits import Limit, LimitKey, with_stands
from meterstream.streams.core.policy import DAY_US, HOUR_US, MINUTE_US
from meterstream.streams.core.running import Uses
from meterstream.streams.core.telling import Side
from meterstream.streams.core.totals import MEASURES, Totals, Used
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
corrections_of = st.lists(
    st.builds(
        Use,
        st.integers(0, 20 * 24 * 60),
        st.tuples(st.sampled_from("abc"), *(st.just(name) for name in ("u1", "p", "x", "f"))),
        st.tuples(*(st.sampled_from((0, -1, -8, -150, 3)) for _ in MEASURES)),
    ),
    max_size=8,
)


def local_window(data: LimitSetData, use: Use) -> str:
    """Return the day or month in which the limit counts a use, as its team's calendar names it."""
    local = from_us(use.cell[0] * 1_000_000).astimezone(ZoneInfo(ZONES[use.key[0]]))
    return local.strftime("%Y-%m-%d" if data.window == "day" else "%Y-%m")


def concerns(data: LimitSetData, use: Use) -> bool:
    """Tell whether a limit counts a use."""
    team, user, project, agent, feature = use.key
    names = {"team": "", "user": user, "project": project, "agent": agent, "feature": feature}
    return team == data.team_id and names[data.subject] == (data.subject_id or "")


Row = tuple[str, str, str, int, int, int | None]
"""Of a level that was reached: team, limit, window, level, total and event."""


class SlowCount:
    """Counts one use and one limit at a time."""

    def __init__(self, limits: list[LimitSetData]) -> None:
        self.limits = limits
        self.used: Counter[tuple[str, str, str]] = Counter()
        self.crossed: set[tuple[str, str, str, int]] = set()
        self.crossings: set[Row] = set()

    def use(self, at: int | None, *uses: Use) -> None:
        """Count uses together, as the event `at` or as corrections."""
        for data in self.limits:
            amounts = Counter[tuple[str, str, str]]()
            for use in uses:
                if concerns(data, use):
                    place = (str(data.team_id), data.limit_id, local_window(data, use))
                    amounts[place] += use.amounts[MEASURES.index(data.measure)]
            for place, amount in amounts.items():
                self.used[place] += amount
                for level in data.alert_levels_permille if amount else ():
                    is_over = self.used[place] * 1000 >= data.amount * level
                    if is_over and (*place, level) not in self.crossed:
                        self.crossed.add((*place, level))
                        self.crossings.add((*place, level, self.used[place], at))


def name_of(limit: Limit, window: Window) -> str:
    """Return a window as `local_window` names it."""
    local = from_us(window.start_us + HOUR_US).astimezone(ZoneInfo(ZONES[limit.key[0]]))
    return local.strftime("%Y-%m-%d" if window.kind == "day" else "%Y-%m")


def spent_by(totals: Totals, uses: list[Use]) -> tuple[Uses, dict[Window, Used]]:
    """Return uses as the core has them, and by window."""
    index: dict[CellKey, int] = {}
    cell = np.array([index.setdefault(use.cell, len(index)) for use in uses], np.int64)
    amounts = np.array([use.amounts for use in uses], np.int64).reshape(-1, len(MEASURES))
    found = Uses(list(index), cell, amounts)
    if not uses:
        return found, {}
    return found, totals.by_window(found.keys, found.totals(), ZONES.__getitem__)


def side(limits: Limits, clock_us: int) -> Side:
    """Return one side of a record."""
    return Side(limits, ZONES.__getitem__, clock_us)


@given(limits_of, uses_of, cuts_of, corrections_of)
@a_few
def test_borders_make_no_difference(
    definitions: list[LimitSetData], uses: list[Use], cuts: list[int], corrections: list[Use]
) -> None:
    """Each level is crossed once, by the event at which a slow count comes to it.

    What a correction takes back arms no level again, and what it adds crosses by no event.
    """
    limits = Limits({limit.key: limit for limit in (Limit(data, 0) for data in definitions)})
    totals, slow = Totals(), SlowCount(definitions)
    reached: dict[Window, dict[LimitKey, int]] = {}
    crossings: list[Row] = []
    stands: dict[tuple[str, str, str], int] = {}
    borders = sorted({0, len(uses), *(cut for cut in cuts if cut < len(uses))})
    for number, (first, last) in enumerate(pairwise(borders)):
        part, put_right = uses[first:last], corrections[number : number + 1]
        slow.use(None, *put_right)
        for at, use in enumerate(part):
            slow.use(first + at, use)
        (batch, used), (_, corrected) = spent_by(totals, part), spent_by(totals, put_right)
        spent = Spent(batch, used, corrected)
        decision = Decision(totals, reached, side(limits, 0), side(limits, 0), spent)
        decided = decision.decide(0)
        for crossing in decided.crossings:
            if crossing.kind == "reached":
                name = name_of(crossing.limit, crossing.window)
                at_event = None if crossing.at is None else first + crossing.at
                place = (*crossing.limit.key, name)
                crossings.append((*place, crossing.level_permille, crossing.used, at_event))
        reached = with_stands(reached, decided.stands)
        for one in decided.standings:
            levels = [reached.get(one.window, {}).get(one.index.keys[i], 0) for i in one.rows]
            assert one.reached_permille.tolist() == levels
            amounts = zip(one.rows.tolist(), one.used.tolist(), one.blocked.tolist(), strict=True)
            for row, amount, is_blocked in amounts:
                limit = one.index.limits[row]
                stands[(*limit.key, name_of(limit, one.window))] = amount
                assert is_blocked == (limit.is_hard and amount >= limit.data.amount)
        for part_used in (used, corrected):
            totals.add(part_used)
    assert len(set(crossings)) == len(crossings)
    assert set(crossings) == slow.crossings
    assert {place: amount for place, amount in stands.items() if amount} == {
        place: amount for place, amount in slow.used.items() if amount
    }


@given(limits_of, uses_of)
@a_few
def test_a_limit_that_is_set_later_knows_what_was_used(
    definitions: list[LimitSetData], uses: list[Use]
) -> None:
    """It stands where it would have stood, had it always been there, in the windows of now."""
    totals, slow = Totals(), SlowCount(definitions)
    totals.add(spent_by(totals, uses)[1])
    for at, use in enumerate(uses):
        slow.use(at, use)
    clock_us = max(use.cell[0] for use in uses) * 1_000_000 + MINUTE_US
    limits = [Limit(data, clock_us) for data in definitions]
    found = Decision(
        totals,
        {},
        side(Limits(), clock_us),
        side(Limits({limit.key: limit for limit in limits}), clock_us),
        Spent(),
        [limit.key for limit in limits],
    ).decide(clock_us)
    assert sum(len(one.rows) for one in found.standings) == len(limits)
    for one in found.standings:
        assert one.window.start_us <= clock_us < one.window.end_us
        for row, amount in zip(one.rows.tolist(), one.used.tolist(), strict=True):
            limit = one.index.limits[row]
            assert amount == slow.used[(*limit.key, name_of(limit, one.window))]
    blocked = {one.limit.key for one in found.crossings if one.kind == "blocked"}
    assert blocked == keys_blocked(found)
    for crossing in found.crossings:
        assert crossing.at is None
        if crossing.kind == "reached":
            assert crossing.used * 1000 >= crossing.limit.data.amount * crossing.level_permille
    totals.forget(clock_us + 40 * DAY_US)
    assert list(totals.items()) == []


def keys_blocked(decided: Decided) -> set[LimitKey]:
    """Return the limits that standings call blocked."""
    return {
        one.index.keys[row]
        for one in decided.standings
        for row, is_blocked in zip(one.rows.tolist(), one.blocked.tolist(), strict=True)
        if is_blocked
    }


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
