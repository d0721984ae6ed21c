"""Deciding limits: which event reached a level, what blocks from now on, and what admits again.

A level is reached by the first event, in the order of offsets, with which the running total of its
window comes to the level or over it; so it is the same event wherever a batch begins or ends. A
level is reached once in a window and version of its limit, whatever is taken back afterwards. A
hard limit blocks while the total of the window that holds the clock is not below its amount.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from .cells import CellKey
from .limits import (
    Index,
    Limit,
    LimitKey,
    Limits,
    Reached,
    Stand,
    Standings,
    stands_of,
    with_stands,
)
from .policy import QUARTER_US
from .totals import MEASURES, Subjects, Totals, Used, ZoneOf
from .windows import KINDS, Window, windows_at

_I64 = NDArray[np.int64]

CrossingKind = Literal["reset", "reached", "blocked"]
Reason = Literal["window", "changed", "removed", "corrected"]

_ORDER: Final[dict[CrossingKind, int]] = {"reset": 0, "reached": 1, "blocked": 2}


@dataclass(frozen=True, slots=True)
class Uses:
    """What counted events used, in the order of their offsets. Arrays of one length."""

    keys: Sequence[CellKey]
    """The different cells they belong to."""
    cell: _I64
    """Which of `keys` each belongs to."""
    amounts: _I64
    """Shape (uses, MEASURES); none is negative."""

    def totals(self) -> _I64:
        """Return what was used by cell, shape (keys, MEASURES)."""
        order = np.argsort(self.cell, kind="stable")
        by_cell = self.cell[order]
        starts = np.concatenate(([0], np.flatnonzero(by_cell[1:] != by_cell[:-1]) + 1))
        found: _I64 = np.add.reduceat(self.amounts[order], starts, axis=0)
        return found


NO_USES: Final = Uses((), np.zeros(0, np.int64), np.zeros((0, len(MEASURES)), np.int64))


@dataclass(frozen=True, slots=True)
class Spent:
    """What one record adds to totals."""

    uses: Uses = NO_USES
    used: Mapping[Window, Used] = field(default_factory=dict)
    """`uses` by window and subject."""
    corrected: Mapping[Window, Used] = field(default_factory=dict)
    """What corrections add or take back, before the events of the record count."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A level was reached, or a hard limit began or ceased to block."""

    kind: CrossingKind
    limit: Limit
    window: Window
    used: int
    """The total: with the event that made the difference where one did."""
    level_permille: int = 0
    """Of `reached`."""
    reason: Reason | None = None
    """Of `reset`."""
    at: int | None = None
    """Which of the uses made the difference; None where no event did."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Where limits stand after a record, and what happened to them with it."""

    standings: tuple[Standings, ...] = ()
    """Of one limit and window the last one holds."""
    crossings: tuple[Crossing, ...] = ()
    """In the order of their events; first those that no event caused."""
    stands: tuple[Stand, ...] = ()
    """The levels that were not reached before."""


@dataclass(frozen=True, slots=True)
class Side:
    """What limits are in force, and when, on one side of a record."""

    limits: Limits
    zone_of: ZoneOf
    clock_us: int
    """Before the record: the clock for which limits were told last."""

    def window_of(self, limit: Limit) -> Window:
        """Return the window in which a limit holds now; one that was just set holds from then."""
        return limit.window_at(self.zone_of(limit.key[0]), max(self.clock_us, limit.since_us))


def begun(before: Side, after: Side) -> bool:
    """Tell whether a window has begun, for any limit, between the clocks of two sides."""
    if before.clock_us // QUARTER_US == after.clock_us // QUARTER_US:
        return False
    zones = {after.zone_of(limit.key[0]) for limit in _of_windows(after.limits)}
    return any(
        windows_at(zone, before.clock_us) != windows_at(zone, after.clock_us) for zone in zones
    )


def _of_windows(limits: Iterable[Limit]) -> list[Limit]:
    """Return the limits that hold by day or month."""
    return [limit for limit in limits if limit.data.window in KINDS]


class Decision:
    """Decides the limits of one record. Used once."""

    def __init__(
        self,
        totals: Totals,
        reached: Reached,
        before: Side,
        after: Side,
        spent: Spent,
        anew: Collection[LimitKey] = (),
    ) -> None:
        """`anew` are the limits that entries of the record set or removed."""
        self._totals, self._before, self._after = totals, before, after
        self._spent, self._anew = spent, anew
        self._reached = with_stands(reached, (), anew) if anew else reached
        self._standings: list[Standings] = []
        self._crossings: list[Crossing] = []
        self._new: dict[Window, dict[LimitKey, int]] = {}
        """Levels that are reached with this record."""
        self._walk: _Walk | None = None
        self._turning: dict[LimitKey, None] = {}
        """Limits that may have begun or ceased to block."""

    def decide(self, set_us: int, tell_all: bool) -> Decided:
        """Return where limits stand after the record.

        `set_us` is the clock before the events of the record. `tell_all` tells every limit, as
        for those who know nothing yet.
        """
        self._set(set_us)
        for window in {**self._spent.used, **self._spent.corrected}:
            self._use(window)
        self._begin(tell_all)
        self._turn()
        self._crossings.sort(
            key=lambda one: (
                -1 if one.at is None else one.at,
                one.limit.key,
                _ORDER[one.kind],
                one.level_permille,
            )
        )
        stands = tuple(stands_of(self._new))
        return Decided(tuple(self._standings), tuple(self._crossings), stands)

    # --- totals ---

    def _used_before(self, window: Window, subjects: _I64) -> _I64:
        """Return what subjects had used when the events of the record began to count."""
        return self._totals.used(window, subjects) + _of(self._spent.corrected, window, subjects)

    def _used_after(self, window: Window, subjects: _I64) -> _I64:
        return self._used_before(window, subjects) + _of(self._spent.used, window, subjects)

    # --- where limits stand ---

    def _set(self, set_us: int) -> None:
        """Limits that were just set begin with what was used before: levels by no event."""
        before = self._before.limits
        by_window: dict[Window, list[Limit]] = {}
        fresh = (self._after.limits.get(key) for key in self._anew)
        at = Side(self._after.limits, self._after.zone_of, set_us)
        for limit in _of_windows(one for one in fresh if one is not None):
            by_window.setdefault(at.window_of(limit), []).append(limit)
        for window, limits in by_window.items():
            index = Index.of(limits, self._totals.subjects)
            rows = np.argsort(index.rank)
            used = self._used_before(window, index.subject)[rows, index.measure[rows]]
            self._stand(window, index, rows, used)
        for limit in _of_windows(one for one in map(before.get, self._anew) if one is not None):
            new = self._after.limits.get(limit.key)
            if new is None or new.data.window not in KINDS:
                self._remove(limit)
        self._turning |= dict.fromkeys(self._anew)

    def _remove(self, limit: Limit) -> None:
        """Tell that a limit holds no longer, in the window in which it was told last."""
        window = self._before.window_of(limit)
        index = Index.of([limit], self._totals.subjects)
        used = self._used_after(window, index.subject)[:, limit.measure]
        none = np.zeros(1, np.int64)
        self._standings.append(Standings(window, index, none, used, none, are_removed=True))

    def _use(self, window: Window) -> None:
        """The limits of those that used something, or that were corrected."""
        spent, totals = self._spent, self._totals
        parts = [part[window].subjects for part in (spent.used, spent.corrected) if window in part]
        subjects = parts[0] if len(parts) == 1 else np.union1d(*parts)
        index = self._after.limits.index(window.kind, totals.subjects)
        rows, which = index.find(subjects)
        measure = index.measure[rows]
        added = _of(spent.used, window, subjects)[which, measure]
        fixed = _of(spent.corrected, window, subjects)[which, measure]
        counts = ((added > 0) | (fixed != 0)) & (window.end_us > index.since_us[rows])
        if not counts.any():
            return
        rows, which, measure = rows[counts], which[counts], measure[counts]
        added, fixed = added[counts], fixed[counts]
        told = totals.used(window, subjects)[which, measure]
        before = told + fixed
        was = self._known(window, index, rows)
        if fixed.any():
            some = fixed != 0
            was[some] = self._reach(window, index, rows[some], before[some], was[some])
        after = before + added
        now = np.maximum(was, index.reached(rows, after))
        for i in np.flatnonzero(now > was).tolist():
            limit = index.limits[rows[i]]
            reaching = self._reaching(limit, window, int(before[i]))
            for level in limit.levels:
                if was[i] < level <= now[i]:
                    used, at = reaching.first(limit.amount_of(level))
                    self._crossings.append(Crossing("reached", limit, window, used, level, at=at))
            self._new.setdefault(window, {})[limit.key] = int(now[i])
        self._standings.append(Standings(window, index, rows, after, now))
        turned = index.blocked(rows, told) != index.blocked(rows, after)
        self._turning |= {index.keys[rows[i]]: None for i in np.flatnonzero(turned).tolist()}

    def _begin(self, tell_all: bool) -> None:
        """The limits whose window has begun since they were told last."""
        before, after = self._before, self._after
        zones_are_same = before.zone_of == after.zone_of
        if not tell_all and zones_are_same and not begun(before, after):
            return
        groups: dict[tuple[Window, Window], list[Limit]] = {}
        for limit in _of_windows(after.limits):
            windows = before.window_of(limit), after.window_of(limit)
            # One that was set when the clock was behind its window was told too early to be seen.
            comes = before.clock_us < windows[1].start_us <= after.clock_us
            if tell_all or comes or windows[0] != windows[1]:
                groups.setdefault(windows, []).append(limit)
        for (last, window), limits in groups.items():
            index = Index.of(limits, self._totals.subjects)
            rows = np.argsort(index.rank)
            subjects, measure = index.subject[rows], index.measure[rows]
            at = np.arange(len(rows))
            told = self._totals.used(last, subjects)[at, measure]
            used = self._used_after(window, subjects)[at, measure]
            self._stand(window, index, rows, used)
            turned = index.blocked(rows, told) != index.blocked(rows, used)
            self._turning |= {index.keys[rows[i]]: None for i in np.flatnonzero(turned).tolist()}

    def _stand(self, window: Window, index: Index, rows: _I64, used: _I64) -> None:
        """Tell where limits stand, with the levels that they reached by no event."""
        was = self._known(window, index, rows)
        now = self._reach(window, index, rows, used, was)
        self._standings.append(Standings(window, index, rows, used, now))

    def _reach(self, window: Window, index: Index, rows: _I64, used: _I64, was: _I64) -> _I64:
        """Return the highest levels that are reached at `used`; those above `was` are told."""
        now = np.maximum(was, index.reached(rows, used))
        for i in np.flatnonzero(now > was).tolist():
            limit = index.limits[rows[i]]
            self._crossings += [
                Crossing("reached", limit, window, int(used[i]), level)
                for level in limit.levels
                if was[i] < level <= now[i]
            ]
            self._new.setdefault(window, {})[limit.key] = int(now[i])
        return now

    def _known(self, window: Window, index: Index, rows: _I64) -> _I64:
        """Return the highest levels that were reached so far, in this record too."""
        known = index.known(rows, self._reached.get(window, {}))
        return np.maximum(known, index.known(rows, self._new.get(window, {})))

    # --- which event it was ---

    def _reaching(self, limit: Limit, window: Window, before: int) -> "_Running":
        subjects = self._totals.subjects
        if self._walk is None:
            self._walk = _Walk(self._spent.uses, subjects)
        return self._walk.over(subjects.number(limit.subject), limit.measure, window, before)

    # --- what blocks ---

    def _turn(self) -> None:
        """Tell which limits began or ceased to block, of those that may have."""
        for key in self._turning:
            old, new = self._before.limits.get(key), self._after.limits.get(key)
            last = None if old is None else self._standing(old, self._before.window_of(old), True)
            now = None if new is None else self._standing(new, self._after.window_of(new), False)
            was_blocked, is_blocked = (one is not None and one.blocks for one in (last, now))
            if now is not None and is_blocked and not was_blocked:
                self._crossings.append(self._blocked(now))
            elif last is not None and was_blocked and not is_blocked:
                self._crossings.append(self._reset(last, now))

    def _blocked(self, now: "_Standing") -> Crossing:
        limit, window, used, at = now.limit, now.window, now.used, None
        subject = np.array([self._totals.subjects.number(limit.subject)], np.int64)
        before = int(self._used_before(window, subject)[0, limit.measure])
        if before < limit.data.amount:
            used, at = self._reaching(limit, window, before).first(limit.data.amount)
        return Crossing("blocked", limit, window, used, at=at)

    def _reset(self, last: "_Standing", now: "_Standing | None") -> Crossing:
        if now is None:
            return Crossing("reset", last.limit, last.window, last.used, reason="removed")
        reason: Reason = "corrected"
        if now.limit.key in self._anew:
            reason = "changed"
        elif now.window != last.window:
            reason = "window"
        return Crossing("reset", now.limit, now.window, now.used, reason=reason)

    def _standing(self, limit: Limit, window: Window, before: bool) -> "_Standing | None":
        if limit.data.window not in KINDS:
            return None
        subject = np.array([self._totals.subjects.number(limit.subject)], np.int64)
        used = (self._totals.used if before else self._used_after)(window, subject)
        return _Standing(limit, window, int(used[0, limit.measure]))


@dataclass(frozen=True, slots=True)
class _Standing:
    limit: Limit
    window: Window
    used: int

    @property
    def blocks(self) -> bool:
        return (
            self.limit.is_hard
            and self.window.end_us > self.limit.since_us
            and self.used >= self.limit.data.amount
        )


@dataclass(frozen=True, slots=True)
class _Running:
    """The running total of one limit over the uses that it counts."""

    at: _I64
    """Which uses these are."""
    totals: _I64

    def first(self, amount: int) -> tuple[int, int]:
        """Return the first total that comes to an amount, and the use with which it does."""
        i = int(np.searchsorted(self.totals, amount))
        return int(self.totals[i]), int(self.at[i])


class _Walk:
    """Finds the uses of a subject one by one."""

    def __init__(self, uses: Uses, subjects: Subjects) -> None:
        self._uses = uses
        self._by_cell = np.argsort(uses.cell, kind="stable")
        ends = np.searchsorted(uses.cell[self._by_cell], np.arange(len(uses.keys) + 1))
        self._ends: list[int] = ends.tolist()
        self._cells: dict[int, list[int]] = {}
        for cell, key in enumerate(uses.keys):
            for subject in subjects.of(key):
                self._cells.setdefault(subject, []).append(cell)

    def over(self, subject: int, measure: int, window: Window, before: int) -> _Running:
        """Return the running total of a subject's measure in a window; it was `before`."""
        keys, ends = self._uses.keys, self._ends
        its_uses = [
            self._by_cell[ends[cell] : ends[cell + 1]]
            for cell in self._cells.get(subject, ())
            if window.start_us <= keys[cell][0] * 1_000_000 < window.end_us
        ]
        at = np.sort(np.concatenate([np.zeros(0, np.int64), *its_uses]))
        amounts = self._uses.amounts[at, measure]
        counts = amounts > 0
        return _Running(at[counts], before + np.cumsum(amounts[counts]))


def _of(part: Mapping[Window, Used], window: Window, subjects: _I64) -> _I64:
    """Return what subjects used by a part of what was spent, shape (subjects, MEASURES)."""
    used = part.get(window)
    if used is None:
        return np.zeros((len(subjects), len(MEASURES)), np.int64)
    return used.of(subjects)
