"""Limits: which are in force, where each stands, and which event reached a level.

A level is reached by the first event, in the order of offsets, with which the running total of its
window comes to the level or over it; so it is the same event wherever a batch begins or ends. A
level is reached once in a window and version of its limit, whatever is taken back afterwards.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import LimitSetData

from .cells import CellKey
from .totals import MEASURES, Subject, Subjects, Totals, Used, ZoneOf
from .windows import KINDS, Kind, Window, windows_at

_I64 = NDArray[np.int64]

LimitKey = tuple[str, str]
"""(team_id, limit_id)"""

BLOCKING_PERMILLE: Final = 1000
"""The level at which a hard limit blocks."""

_NEVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """One version of a limit."""

    data: LimitSetData
    since_us: int
    """Log time of the entry that set it: it holds in windows that end later."""
    key: LimitKey = field(init=False)
    subject: Subject = field(init=False)
    measure: int = field(init=False)
    """Its column in totals."""
    levels: tuple[int, ...] = field(init=False)
    """Thousandths of the amount, ascending; where the limit is hard the blocking one is there."""

    def __post_init__(self) -> None:
        """Look up what follows from its data."""
        data, put = self.data, object.__setattr__
        team_id = data.team_id or ""
        levels = set(data.alert_levels_permille)
        if data.enforcement == "hard":
            levels.add(BLOCKING_PERMILLE)
        put(self, "key", (team_id, data.limit_id))
        put(self, "subject", (data.subject, team_id, data.subject_id or ""))
        put(self, "measure", MEASURES.index(data.measure))
        put(self, "levels", tuple(sorted(levels)))

    def amount_of(self, level_permille: int) -> int:
        """Return the least amount, in whole units of the measure, that reaches a level."""
        return -(-self.data.amount * level_permille // 1000)


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the version in force of a limit stands in a window, as a state keeps it."""

    key: LimitKey
    window: Window
    reached_permille: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A level was reached."""

    limit: Limit
    window: Window
    level_permille: int
    used: int
    """The total with the event that reached it."""
    at: int | None
    """Which of the uses it was; None where the limit was set below what was used already."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What counted events used, in the order of their offsets. Arrays of one length."""

    keys: Sequence[CellKey]
    """The different cells they belong to."""
    cell: _I64
    """Which of `keys` each belongs to."""
    amounts: _I64
    """Shape (uses, MEASURES)."""

    def totals(self) -> _I64:
        """Return what was used by cell, shape (keys, MEASURES)."""
        order = np.argsort(self.cell, kind="stable")
        by_cell = self.cell[order]
        starts = np.concatenate(([0], np.flatnonzero(by_cell[1:] != by_cell[:-1]) + 1))
        found: _I64 = np.add.reduceat(self.amounts[order], starts, axis=0)
        return found


Reached = Mapping[Window, Mapping[LimitKey, int]]
"""The highest level that was reached, in a window, by the version in force; 0 is left out."""


def with_stands(
    reached: Reached, stands: Sequence[Stand], anew: Collection[LimitKey] = ()
) -> dict[Window, dict[LimitKey, int]]:
    """Return reached levels with those of `stands`; limits `anew` begin without any level."""
    found = {
        window: {key: level for key, level in levels.items() if key not in anew}
        for window, levels in reached.items()
    }
    for stand in stands:
        found.setdefault(stand.window, {})[stand.key] = stand.reached_permille
    return found


def stands_of(reached: Reached) -> list[Stand]:
    """Return reached levels one by one."""
    return [
        Stand(key, window, level)
        for window, levels in reached.items()
        for key, level in levels.items()
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Limits as arrays of one length, sorted by the number of their subject."""

    limits: list[Limit]
    keys: list[LimitKey]
    rank: _I64
    """Their places in the order of their keys: numbers of subjects are not the same everywhere."""
    subject: _I64
    measure: _I64
    since_us: _I64
    amount: _I64
    hard: NDArray[np.bool_]
    amounts: _I64
    """Amount of each level, shape (limits, most levels), filled up with one never reached."""
    levels: _I64
    """Shape (limits, most levels + 1): no level, then each level in thousandths."""

    @classmethod
    def of(cls, limits: Sequence[Limit], subjects: Subjects) -> "Index":
        """Return an index of limits, by the numbers that `subjects` gives."""
        numbered = sorted((subjects.number(one.subject), one.key) for one in limits)
        by_key = {one.key: one for one in limits}
        ordered = [by_key[key] for _, key in numbered]
        rank = {key: i for i, key in enumerate(sorted(by_key))}
        most = max((len(one.levels) for one in ordered), default=0)
        amounts = np.full((len(ordered), most), _NEVER, np.int64)
        levels = np.zeros((len(ordered), most + 1), np.int64)
        for i, one in enumerate(ordered):
            for j, level in enumerate(one.levels):
                amounts[i, j], levels[i, j + 1] = one.amount_of(level), level
        return cls(
            ordered,
            [key for _, key in numbered],
            np.array([rank[key] for _, key in numbered], np.int64),
            np.array([number for number, _ in numbered], np.int64),
            np.array([one.measure for one in ordered], np.int64),
            np.array([one.since_us for one in ordered], np.int64),
            np.array([one.data.amount for one in ordered], np.int64),
            np.array([one.data.enforcement == "hard" for one in ordered], np.bool_),
            amounts,
            levels,
        )

    def find(self, subjects: _I64) -> tuple[_I64, _I64]:
        """Return the rows of the limits of subjects, and which of the subjects each is of.

        They come in the order of the limits' keys.
        """
        first = np.searchsorted(self.subject, subjects)
        count = np.searchsorted(self.subject, subjects, side="right") - first
        which = np.repeat(np.arange(len(subjects)), count)
        within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        rows = first[which] + within
        order = np.argsort(self.rank[rows])
        return rows[order], which[order]

    def reached(self, rows: _I64, used: _I64) -> _I64:
        """Return the highest level that totals come to, 0 if none."""
        passed = (used[:, None] >= self.amounts[rows]).sum(axis=1)
        found: _I64 = self.levels[rows, passed]
        return found


@dataclass(frozen=True, slots=True)
class Standings:
    """Where limits stand in one window. Arrays of one length."""

    window: Window
    index: Index
    rows: _I64
    """Which of the index's limits."""
    used: _I64
    reached_permille: _I64
    """The highest level that was ever reached in this window by this version; 0 if none was."""

    @property
    def blocked(self) -> NDArray[np.bool_]:
        """Whether nothing more should be admitted."""
        found: NDArray[np.bool_] = self.index.hard[self.rows] & (
            self.used >= self.index.amount[self.rows]
        )
        return found

    def stands(self) -> list[Stand]:
        """Return what a state keeps of them: those that have reached a level."""
        reached = np.flatnonzero(self.reached_permille).tolist()
        return [
            Stand(self.index.limits[self.rows[i]].key, self.window, int(self.reached_permille[i]))
            for i in reached
        ]


class Limits:
    """The limits of one partition's teams. Immutable."""

    def __init__(self, limits: Mapping[LimitKey, Limit] | None = None) -> None:
        self._by_key: dict[LimitKey, Limit] = dict(limits or {})
        self._indexed: tuple[Subjects, dict[Kind, Index]] | None = None

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: LimitKey) -> Limit | None:
        """Return the version of a limit that is in force."""
        return self._by_key.get(key)

    def changed(self, changes: Mapping[LimitKey, Limit | None]) -> "Limits":
        """Return the limits after some were set, or removed (None)."""
        by_key = {**self._by_key, **changes}
        return Limits({key: limit for key, limit in by_key.items() if limit is not None})

    def index(self, kind: Kind, subjects: Subjects) -> Index:
        """Return the limits of a kind of window by the numbers that `subjects` gives."""
        if self._indexed is None or self._indexed[0] is not subjects:
            self._indexed = (
                subjects,
                {
                    one: Index.of(
                        [limit for limit in self._by_key.values() if limit.data.window == one],
                        subjects,
                    )
                    for one in KINDS
                },
            )
        return self._indexed[1][kind]


@dataclass(frozen=True, slots=True)
class Decided:
    """Where limits stand after what was used, and the levels that were reached by it."""

    standings: tuple[Standings, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    def followed_by(self, later: "Decided") -> "Decided":
        """Return both together; what is later takes the place of what it was before."""
        return Decided(self.standings + later.standings, self.crossings + later.crossings)


def set_limits(limits: Sequence[Limit], totals: Totals, zone_of: ZoneOf, clock_us: int) -> Decided:
    """Return where limits stand that were just set, in the windows that hold the clock.

    What was used before counts, so levels may be reached at once, by no event.
    """
    by_window: dict[Window, list[Limit]] = {}
    for limit in limits:
        for window in windows_at(zone_of(limit.key[0]), max(clock_us, limit.since_us)):
            if window.kind == limit.data.window:
                by_window.setdefault(window, []).append(limit)
    standings: list[Standings] = []
    crossings: list[Crossing] = []
    for window, unordered in by_window.items():
        index = Index.of(unordered, totals.subjects)
        rows = np.argsort(index.rank)
        used = totals.used(window, index.subject)[rows, index.measure[rows]]
        reached = index.reached(rows, used)
        standings.append(Standings(window, index, rows, used, reached))
        crossings += [
            Crossing(index.limits[row], window, level, amount, None)
            for row, amount, highest in zip(
                rows.tolist(), used.tolist(), reached.tolist(), strict=True
            )
            for level in index.limits[row].levels
            if level <= highest
        ]
    crossings.sort(key=lambda one: (one.limit.key, one.level_permille))
    return Decided(tuple(standings), tuple(crossings))


def decide(
    limits: Limits, reached: Reached, totals: Totals, used: Mapping[Window, Used], uses: Uses
) -> Decided:
    """Return where the limits stand whose subjects used something, and what they reached.

    `used` is `uses` by window and subject. Amounts must not be negative.
    """
    standings: list[Standings] = []
    crossings: list[Crossing] = []
    for window, found in used.items():
        index = limits.index(window.kind, totals.subjects)
        rows, which = index.find(found.subjects)
        added = found.amounts[which, index.measure[rows]]
        counts = (added > 0) & (window.end_us > index.since_us[rows])
        rows, which, added = rows[counts], which[counts], added[counts]
        if not len(rows):
            continue
        before = totals.used(window, found.subjects)[which, index.measure[rows]]
        levels = reached.get(window, {})
        keys = index.keys
        was = np.array([levels.get(keys[row], 0) for row in rows.tolist()], np.int64)
        now = np.maximum(was, index.reached(rows, before + added))
        standings.append(Standings(window, index, rows, before + added, now))
        for i in np.flatnonzero(now > was).tolist():
            span = int(was[i]), int(now[i])
            limit = index.limits[rows[i]]
            crossings += _crossings(limit, window, int(before[i]), span, uses, totals.subjects)
    crossings.sort(key=lambda one: (one.at, one.limit.key, one.level_permille))
    return Decided(tuple(standings), tuple(crossings))


def _crossings(
    limit: Limit,
    window: Window,
    before: int,
    span: tuple[int, int],
    uses: Uses,
    subjects: Subjects,
) -> list[Crossing]:
    """Return with which use each level above the first of `span` up to the second was reached."""
    subject = subjects.number(limit.subject)
    its_cells = [
        subject in subjects.of(key) and window.start_us <= key[0] * 1_000_000 < window.end_us
        for key in uses.keys
    ]
    its_uses = np.array(its_cells, np.bool_)[uses.cell] & (uses.amounts[:, limit.measure] > 0)
    at = np.flatnonzero(its_uses)
    running = before + np.cumsum(uses.amounts[at, limit.measure])
    found: list[Crossing] = []
    for level in limit.levels:
        if span[0] < level <= span[1]:
            first = int(np.searchsorted(running, limit.amount_of(level)))
            found.append(Crossing(limit, window, level, int(running[first]), int(at[first])))
    return found
