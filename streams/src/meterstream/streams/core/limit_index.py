"""The limits of a partition, as arrays: which are those of a subject, and where they stand.

A limit that is set or removed changes an index, which takes a copy of its arrays: made anew it
takes ten times as long.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .limits import Limit, LimitKey
from .totals import Subjects, ZoneOf
from .windows import KINDS, Kind, Window

_I64 = NDArray[np.int64]

_NEVER: Final = 2**63 - 1


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
    by_key: list[LimitKey]
    """The keys in their order."""
    row_of: Mapping[LimitKey, int]
    """Where the limit of a key stands."""
    told: dict[str, Any] = field(default_factory=dict)
    """What each limit says of itself, as columns of its records; empty until somebody asks."""

    @classmethod
    def of(cls, limits: Sequence[Limit], subjects: Subjects) -> "Index":
        """Return an index of limits, by the numbers that `subjects` gives."""
        numbered = sorted((subjects.number(one.subject), one.key) for one in limits)
        by_key = {one.key: one for one in limits}
        ordered = [by_key[key] for _, key in numbered]
        in_order = sorted(by_key)
        rank = {key: i for i, key in enumerate(in_order)}
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
            in_order,
            {key: i for i, (_, key) in enumerate(numbered)},
        )

    def changed(self, changes: Mapping[LimitKey, Limit | None], subjects: Subjects) -> "Index":
        """Return the index after some of its limits were set or removed (None), or new ones set.

        `subjects` are those by whose numbers it was made. What stays is only copied.
        """
        new = Index.of([one for one in changes.values() if one is not None], subjects)
        rows = [self.row_of.get(key, -1) for key in new.keys]
        if len(rows) == len(changes) and min(rows) >= 0:
            at = np.array(rows, np.int64)
            if (self.subject[at] == new.subject).all():
                return self._replaced(new, at)
        gone = np.array([self.row_of[key] for key in changes if key in self.row_of], np.int64)
        kept = np.delete(np.arange(len(self.keys)), gone)
        at = np.searchsorted(self.subject[kept], new.subject, side="right")
        source = np.insert(kept, at, len(self.keys) + np.arange(len(new.keys)))

        # The ranks of those that stay close up where some are gone, and make room for new ones.
        by_key = self.by_key.copy()
        for row in gone.tolist():
            del by_key[bisect_left(by_key, self.keys[row])]
        places = np.array([bisect_left(by_key, key) for key in new.by_key], np.int64)
        for key in new.by_key:
            insort(by_key, key)
        rank = self.rank - np.searchsorted(np.sort(self.rank[gone]), self.rank)
        rank += np.searchsorted(places, rank, side="right")
        ranks = np.concatenate((rank, places[new.rank] + new.rank))

        both = self.keys + new.keys
        keys = [both[row] for row in source.tolist()]
        row_of = {key: row for row, key in enumerate(keys)}
        return self._joined(new, source, keys, ranks[source], by_key, row_of)

    def _replaced(self, new: "Index", at: _I64) -> "Index":
        """Return the index with other versions of limits, of the same subjects, at these rows."""
        source = np.arange(len(self.keys))
        source[at] = len(self.keys) + np.arange(len(at))
        return self._joined(new, source, self.keys, self.rank, self.by_key, self.row_of)

    def _joined(
        self,
        new: "Index",
        source: _I64,
        keys: list[LimitKey],
        rank: _I64,
        by_key: list[LimitKey],
        row_of: Mapping[LimitKey, int],
    ) -> "Index":
        """Return the rows of `source`, which counts those of `new` after those of this one."""
        most = max(self.amounts.shape[1], new.amounts.shape[1])
        amounts = [_wide(one.amounts, most, _NEVER) for one in (self, new)]
        levels = [_wide(one.levels, most + 1, 0) for one in (self, new)]
        limits = self.limits + new.limits
        return Index(
            [limits[row] for row in source.tolist()],
            keys,
            rank,
            np.concatenate((self.subject, new.subject))[source],
            np.concatenate((self.measure, new.measure))[source],
            np.concatenate((self.since_us, new.since_us))[source],
            np.concatenate((self.amount, new.amount))[source],
            np.concatenate((self.hard, new.hard))[source],
            np.concatenate(amounts)[source],
            np.concatenate(levels)[source],
            by_key,
            row_of,
            self._told_after(new, pa.array(source)) if self.told else {},
        )

    def _told_after(self, new: "Index", source: Any) -> dict[str, Any]:
        said = new.columns()
        return {
            name: pa.concat_arrays([column, said[name]]).take(source)
            for name, column in self.told.items()
        }

    def columns(self) -> Mapping[str, Any]:
        """Return what each limit says of itself, with the names of `rows.LIMIT_STATE`."""
        if not self.told:
            datas = [limit.data for limit in self.limits]
            self.told.update(
                team_id=pa.array([key[0] for key in self.keys], pa.string()),
                limit_id=pa.array([data.limit_id for data in datas], pa.string()),
                limit_version=pa.array([data.version for data in datas], pa.int64()),
                subject=pa.array([data.subject for data in datas], pa.string()),
                subject_id=pa.array([data.subject_id or "" for data in datas], pa.string()),
                measure=pa.array([data.measure for data in datas], pa.string()),
                amount=pa.array([data.amount for data in datas], pa.int64()),
                enforcement=pa.array([data.enforcement for data in datas], pa.string()),
            )
        return self.told

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
        if not levels:
            return np.zeros(len(rows), np.int64)
        if len(rows) < len(levels):
            known = (levels.get(self.keys[row], 0) for row in rows.tolist())
            return np.fromiter(known, np.int64, len(rows))
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
        self._on_balances: Mapping[str, Sequence[Limit]] | None = None

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

    @property
    def on_balances(self) -> Mapping[str, Sequence[Limit]]:
        """Return the limits on balances by team, each in the order of their keys."""
        if self._on_balances is None:
            found: dict[str, list[Limit]] = {}
            for limit in sorted(filter(_is_on_balance, self), key=lambda one: one.key):
                found.setdefault(limit.key[0], []).append(limit)
            self._on_balances = found
        return self._on_balances

    def changed(self, changes: Mapping[LimitKey, Limit | None]) -> "Limits":
        """Return the limits after some were set, or removed (None)."""
        found = Limits(self._by_key)
        for key, limit in changes.items():
            if limit is None:
                found._by_key.pop(key, None)
            else:
                found._by_key[key] = limit
        concerned = (*changes.values(), *map(self.get, changes))
        if not any(map(_is_on_balance, concerned)):
            found._on_balances = self._on_balances
        if self._indexed is not None:
            subjects, indexes = self._indexed
            found._indexed = (
                subjects,
                {
                    kind: _index_after(index, kind, changes, subjects)
                    for kind, index in indexes.items()
                },
            )
        return found

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


def _is_on_balance(limit: Limit | None) -> bool:
    return limit is not None and limit.data.window == "balance"


def _index_after(
    index: Index, kind: Kind, changes: Mapping[LimitKey, Limit | None], subjects: Subjects
) -> Index:
    """Return the index of a kind of window after changes, some of which may be of other kinds."""
    concerned: dict[LimitKey, Limit | None] = {
        key: limit if limit is not None and limit.data.window == kind else None
        for key, limit in changes.items()
        if key in index.row_of or (limit is not None and limit.data.window == kind)
    }
    if not concerned:
        return index
    if len(concerned) * 4 > len(index.keys):
        gone = concerned.keys()
        kept = [one for one in index.limits if one.key not in gone]
        return Index.of([*kept, *(one for one in concerned.values() if one)], subjects)
    return index.changed(concerned, subjects)


def _wide(values: _I64, width: int, filling: int) -> _I64:
    """Return rows with as many columns as `width`, filled up on the right."""
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=filling) if missing else values
