"""Limits: which are in force, and where each stands."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import LimitSetData

from .totals import MEASURES, Subject, Subjects, ZoneOf
from .windows import KINDS, Kind, Window, windows_at

_I64 = NDArray[np.int64]

LimitKey = tuple[str, str]
"""(team_id or organisation_id, limit_id): a partition decides limits of either or the other."""

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

    def __post_init__(self) -> None:
        """Look up what follows from its data."""
        data, put = self.data, object.__setattr__
        owner_id = data.team_id or data.organisation_id or ""
        put(self, "key", (owner_id, data.limit_id))
        put(self, "subject", (data.subject, owner_id, data.subject_id or ""))
        put(self, "measure", MEASURES.index(data.measure))

    @property
    def levels(self) -> tuple[int, ...]:
        """Return at which thousandths of the amount somebody is told, ascending."""
        return self.data.alert_levels_permille

    @property
    def is_hard(self) -> bool:
        """Whether it blocks at its amount."""
        return self.data.enforcement == "hard"

    def amount_of(self, level_permille: int) -> int:
        """Return the least amount, in whole units of the measure, that reaches a level."""
        return -(-self.data.amount * level_permille // 1000)

    def window_at(self, zone: str, time_us: int) -> Window:
        """Return the window of its kind that holds a time, in a team's zone."""
        day, month = windows_at(zone, time_us)
        return day if self.data.window == "day" else month


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the version in force of a limit stands in a window, as a state keeps it."""

    key: LimitKey
    window: Window
    reached_permille: int


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
    add_stands(found, stands)
    return found


def add_stands(reached: dict[Window, dict[LimitKey, int]], stands: Sequence[Stand]) -> None:
    """Take in levels that were reached."""
    for stand in stands:
        reached.setdefault(stand.window, {})[stand.key] = stand.reached_permille


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
    row_of: Mapping[LimitKey, int]
    """Where the limit of a key stands."""

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
            np.array([one.is_hard for one in ordered], np.bool_),
            amounts,
            levels,
            {key: i for i, (_, key) in enumerate(numbered)},
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

    def known(self, rows: _I64, levels: Mapping[LimitKey, int]) -> _I64:
        """Return the levels that are known to be reached, 0 where none is."""
        found = np.zeros(len(self.limits), np.int64)
        for key, level in levels.items():
            row = self.row_of.get(key)
            if row is not None:
                found[row] = level
        return found[rows]

    def blocked(self, rows: _I64, used: _I64) -> NDArray[np.bool_]:
        """Tell which limits block at these totals."""
        found: NDArray[np.bool_] = self.hard[rows] & (used >= self.amount[rows])
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
    are_removed: bool = False
    """Whether these limits hold no longer."""

    @property
    def blocked(self) -> NDArray[np.bool_]:
        """Whether nothing more should be admitted."""
        if self.are_removed:
            return np.zeros(len(self.rows), np.bool_)
        return self.index.blocked(self.rows, self.used)


class Limits:
    """The limits of one partition's teams. Immutable."""

    def __init__(self, limits: Mapping[LimitKey, Limit] | None = None) -> None:
        self._by_key: dict[LimitKey, Limit] = dict(limits or {})
        self._indexed: tuple[Subjects, dict[Kind, Index]] | None = None
        self._zones: tuple[ZoneOf, frozenset[str]] | None = None

    @cached_property
    def _keys(self) -> list[LimitKey]:
        return sorted(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Limit]:
        return iter(self._by_key.values())

    def get(self, key: LimitKey) -> Limit | None:
        """Return the version of a limit that is in force."""
        return self._by_key.get(key)

    def keys_after(self, key: LimitKey) -> list[LimitKey]:
        """Return the keys of all limits that come after one, in their order."""
        return self._keys[bisect_right(self._keys, key) :]

    def of_owner(self, owner_id: str) -> list[Limit]:
        """Return the limits of a team or an organisation."""
        keys = self._keys
        first, last = (bisect_right(keys, (one, "")) for one in (owner_id, owner_id + "\0"))
        return [self._by_key[key] for key in keys[first:last]]

    def owners(self) -> list[str]:
        """Return the teams, or the organisations, that have limits."""
        return list(dict.fromkeys(owner_id for owner_id, _ in self._keys))

    def zones(self, zone_of: ZoneOf) -> frozenset[str]:
        """Return the zones in which windows of limits begin."""
        if self._zones is None or self._zones[0] != zone_of:
            owners = {one.key[0] for one in self._by_key.values() if one.data.window in KINDS}
            self._zones = zone_of, frozenset(map(zone_of, owners))
        return self._zones[1]

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
