"""Deciding limits: which event reached a level, what blocks from now on, and what admits again.

A level is reached by the first event, in the order of offsets, with which the running total of its
window comes to the level or over it; so it is the same event wherever a batch begins or ends. A
level is reached once in a window and version of its limit, whatever is taken back afterwards. A
hard limit blocks while the total of the window that holds the clock is not below its amount.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .crossings import Crossing, CrossingKind, Decided, Reason, place_of
from .limit_index import Index, Standings
from .limits import Limit, LimitKey, Reached, stands_of, with_stands
from .running import NO_USES, Running, Uses, Walk
from .telling import PORTION, Portion, Side, Teller
from .totals import MEASURES, Totals, Used
from .windows import KINDS, Window

_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one record adds to totals."""

    uses: Uses = NO_USES
    used: Mapping[Window, Used] = field(default_factory=dict)
    """`uses` by window and subject."""
    corrected: Mapping[Window, Used] = field(default_factory=dict)
    """What corrections add or take back, before the events of the record count."""


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
        self._reached_before = reached
        self._reached = with_stands(reached, (), anew) if anew else reached
        self._standings: list[Standings] = []
        self._crossings: list[Crossing] = []
        self._new: dict[Window, dict[LimitKey, int]] = {}
        """Levels that are reached with this record."""
        self._walk: Walk | None = None
        self._turning: dict[LimitKey, None] = {}
        """Limits that may have begun or ceased to block."""
        self._crossed: dict[LimitKey, None] = {}
        """Limits that reached a level by an event."""
        self._overdue: list[Crossing] = []
        """What the beginning of a window did to limits that were not told of it at once."""

    def decide(
        self,
        set_us: int,
        *,
        is_untold: bool = False,
        accounts: Iterable[str] = (),
        portion: int = PORTION,
    ) -> Decided:
        """Return where limits stand after the record.

        `set_us` is the clock before the events of the record. `is_untold` says that nothing was
        told in this generation: every limit is, and `accounts`, for those who know nothing yet.
        Of limits that are told since their window or generation begins, `portion` are at most.
        """
        teller = Teller.of(self._before, self._after, is_untold)
        self._set(set_us)
        for window in {**self._spent.used, **self._spent.corrected}:
            self._use(window, teller)
        told = self._begin(teller, accounts, portion)
        self._turn()
        return Decided(
            tuple(self._standings),
            (*sorted(self._overdue, key=place_of), *sorted(self._crossings, key=place_of)),
            tuple(stands_of(self._new)),
            told.accounts,
            told.telling,
        )

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
        window = self._before.last_of(limit)
        index = Index.of([limit], self._totals.subjects)
        used = self._used_after(window, index.subject)[:, limit.measure]
        none = np.zeros(1, np.int64)
        self._standings.append(Standings(window, index, none, used, none, are_removed=True))

    def _use(self, window: Window, teller: Teller | None) -> None:
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
        if self._before.telling is not None and teller is not None:
            late = self._are_late(teller, window, [index.limits[row] for row in rows.tolist()])
            was[late] = self._reach(window, index, rows[late], told[late], was[late])
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
            self._crossed[limit.key] = None
        self._standings.append(Standings(window, index, rows, after, now))
        turned = index.blocked(rows, told) != index.blocked(rows, after)
        self._turning |= {index.keys[rows[i]]: None for i in np.flatnonzero(turned).tolist()}

    def _are_late(
        self, teller: Teller, window: Window, limits: Sequence[Limit]
    ) -> NDArray[np.bool_]:
        """Tell which limits should have been told in a window before the events of the record."""
        concerned = (
            teller.concerns(limit) and self._before.window_of(limit) == window for limit in limits
        )
        return np.fromiter(concerned, np.bool_, len(limits))

    def _begin(self, teller: Teller | None, accounts: Iterable[str], most: int) -> Portion:
        """The limits whose window has begun since they were told last, a portion of them.

        Those to which something happens with this record are told in any case, and those of owners
        whose zone has changed.
        """
        limits = {limit.key: limit for limit in self._moved()}
        self._turning |= dict.fromkeys(limits)
        if teller is None:
            portion = Portion([], [], None)
        else:
            named = map(self._after.limits.get, self._turning | self._crossed)
            limits |= {one.key: one for one in named if one is not None and teller.concerns(one)}
            portion = teller.portion(most, accounts, limits)
        self._tell([*limits.values(), *portion.limits])
        if portion.telling is None:
            return portion
        also = frozenset(key for key in limits if key > portion.telling.upto)
        return replace(portion, telling=replace(portion.telling, also=also))

    def _moved(self) -> list[Limit]:
        """Return the limits whose window is another one since their owner's zone changed."""
        before, after = self._before, self._after
        if before.zone_of == after.zone_of:
            return []
        moved = [
            owner_id
            for owner_id in after.limits.owners()
            if before.zone_of(owner_id) != after.zone_of(owner_id)
        ]
        return [
            limit
            for owner_id in moved
            for limit in _of_windows(after.limits.of_owner(owner_id))
            if before.last_of(limit) != after.window_of(limit)
        ]

    def _tell(self, told: Iterable[Limit]) -> None:
        """Tell where limits stand, and see whether they block since they were told last."""
        before, after = self._before, self._after
        groups: dict[tuple[Window, Window, Window], list[Limit]] = {}
        for limit in told:
            windows = before.last_of(limit), before.window_of(limit), after.window_of(limit)
            groups.setdefault(windows, []).append(limit)
        for (last, then, window), limits in groups.items():
            index = Index.of(limits, self._totals.subjects)
            rows = np.argsort(index.rank)
            subjects, measure = index.subject[rows], index.measure[rows]
            at = np.arange(len(rows))
            was, became = (
                index.blocked(rows, self._totals.used(one, subjects)[at, measure])
                for one in (last, then)
            )
            used = self._used_after(window, subjects)[at, measure]
            self._stand(window, index, rows, used)
            turns = (was != became) | (became != index.blocked(rows, used))
            self._turning |= {index.keys[rows[i]]: None for i in np.flatnonzero(turns).tolist()}

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

    def _reaching(self, limit: Limit, window: Window, before: int) -> Running:
        subjects = self._totals.subjects
        if self._walk is None:
            self._walk = Walk(self._spent.uses, subjects)
        return self._walk.over(subjects.number(limit.subject), limit.measure, window, before)

    # --- what blocks ---

    def _turn(self) -> None:
        """Tell which limits began or ceased to block, of those that may have."""
        before, after = self._before, self._after
        for key in self._turning:
            old, new = before.limits.get(key), after.limits.get(key)
            last = None if old is None else self._standing(old, before.window_of(old), True)
            if old is not None and last is not None and not before.is_told(key):
                self._catch_up(self._standing(old, before.last_of(old), True), last)
                if key in self._anew or (new and after.window_of(new) != last.window):
                    self._catch_up_with_levels(last)
            now = None if new is None else self._standing(new, after.window_of(new), False)
            was_blocked, is_blocked = (one is not None and one.blocks for one in (last, now))
            if now is not None and is_blocked and not was_blocked:
                self._crossings.append(self._blocked(now))
            elif last is not None and was_blocked and not is_blocked:
                self._crossings.append(self._reset(last, now))

    def _catch_up(self, told: "_Standing | None", last: "_Standing") -> None:
        """Tell what the window has done to a limit that should have been told of it before."""
        was_blocked = told is not None and told.blocks
        if last.blocks != was_blocked:
            kind: CrossingKind = "blocked" if last.blocks else "reset"
            reason: Reason | None = None if last.blocks else "window"
            crossing = Crossing(kind, last.limit, last.window, last.used, reason=reason)
            self._overdue.append(crossing)

    def _catch_up_with_levels(self, last: "_Standing") -> None:
        """Tell the levels with which a window began that a limit has left, or its version."""
        limit, window = last.limit, last.window
        if self._before.last_of(limit) == window and not self._before.tells_all:
            return
        was = self._reached_before.get(window, {}).get(limit.key, 0)
        self._overdue += [
            Crossing("reached", limit, window, last.used, level)
            for level in limit.levels
            if level > was and last.used >= limit.amount_of(level)
        ]

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


def _of(part: Mapping[Window, Used], window: Window, subjects: _I64) -> _I64:
    """Return what subjects used by a part of what was spent, shape (subjects, MEASURES)."""
    used = part.get(window)
    if used is None:
        return np.zeros((len(subjects), len(MEASURES)), np.int64)
    return used.of(subjects)
