"""Cells: what one combination of dimensions used in one window of event time.

Runs are first folded within their batch (`fold_runs`), then merged with the open cells
(`OpenCells.merge`), which gives absolute values without touching the state; `OpenCells.apply`
puts them in once the journal has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.rows import CELL_SUMS

from .policy import MINUTE_US

CellKey = tuple[int, str, str, str, str, str, str, str, str, str]
"""Window start in seconds since 1970, then the dimensions in the order of `rows.CELL_KEY`."""

Sketch = dict[int, int]
"""Count by bucket."""

SUMS: Final = len(CELL_SUMS)
_BUCKET_BITS: Final = 11


@dataclass(frozen=True, slots=True)
class SketchCounts:
    """Counts to add to sketches: of which cell, in which bucket, how many. Three equal lengths."""

    cell: NDArray[np.int64]
    bucket: NDArray[np.int64]
    count: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Folded:
    """Runs of one batch, folded by cell: nothing of the state is in it."""

    keys: Sequence[CellKey]
    sums: NDArray[np.int64]
    """Shape (cells, SUMS)."""
    latency: SketchCounts
    first_token: SketchCounts


@dataclass(frozen=True, slots=True)
class CellValues:
    """Cells with their values: absolute ones of open cells, or those of one record's late runs."""

    keys: Sequence[CellKey]
    sums: NDArray[np.int64]
    latency: Sequence[Sketch]
    first_token: Sequence[Sketch]
    slots: Sequence[int] | None = None
    """Where the open cells keep them, -1 for new ones; None where that is not known."""

    def __len__(self) -> int:
        return len(self.keys)


NO_CELLS: Final = CellValues((), np.zeros((0, SUMS), np.int64), (), ())


def _count_sketch(cell: NDArray[np.int64], bucket: NDArray[np.int64]) -> SketchCounts:
    present = bucket >= 0
    if not present.all():
        cell, bucket = cell[present], bucket[present]
    combined, count = np.unique((cell << _BUCKET_BITS) | bucket, return_counts=True)
    return SketchCounts(combined >> _BUCKET_BITS, combined & ((1 << _BUCKET_BITS) - 1), count)


def fold_runs(
    keys: Sequence[CellKey],
    cell: NDArray[np.int64],
    measures: NDArray[np.int64],
    latency_bucket: NDArray[np.int64],
    first_token_bucket: NDArray[np.int64],
) -> Folded:
    """Fold runs by cell.

    `cell` says for each run which of `keys` it belongs to; every key has a run. `measures` has
    shape (SUMS, runs). A bucket of -1 means that the run has no such time.
    """
    order = np.argsort(cell, kind="stable")
    by_cell = cell[order]
    starts = np.concatenate(([0], np.flatnonzero(by_cell[1:] != by_cell[:-1]) + 1))
    sums = np.add.reduceat(measures[:, order], starts, axis=1).T
    return Folded(
        keys,
        np.ascontiguousarray(sums),
        _count_sketch(cell, latency_bucket),
        _count_sketch(cell, first_token_bucket),
    )


def _add_counts(sketches: list[Sketch], counts: SketchCounts) -> list[Sketch]:
    for cell, bucket, count in zip(
        counts.cell.tolist(), counts.bucket.tolist(), counts.count.tolist(), strict=True
    ):
        sketch = sketches[cell]
        sketch[bucket] = sketch.get(bucket, 0) + count
    return sketches


def values_alone(folded: Folded) -> CellValues:
    """Return folded runs as values of their own, as late rows are."""
    n = len(folded.keys)
    return CellValues(
        folded.keys,
        folded.sums,
        _add_counts([{} for _ in range(n)], folded.latency),
        _add_counts([{} for _ in range(n)], folded.first_token),
    )


def added_up(some: CellValues, others: CellValues) -> CellValues:
    """Return the sums of two lots of values, which may be negative; those of `some` come first."""
    index = {key: i for i, key in enumerate(some.keys)}
    for key in others.keys:
        index.setdefault(key, len(index))
    sums = np.zeros((len(index), SUMS), np.int64)
    sums[: len(some)] = some.sums
    latency: list[Sketch] = [dict(one) for one in some.latency]
    first_token: list[Sketch] = [dict(one) for one in some.first_token]
    latency += [{} for _ in range(len(index) - len(some))]
    first_token += [{} for _ in range(len(index) - len(some))]
    for i, key in enumerate(others.keys):
        at = index[key]
        sums[at] += others.sums[i]
        _merge_sketch(latency[at], others.latency[i])
        _merge_sketch(first_token[at], others.first_token[i])
    return CellValues(list(index), sums, latency, first_token)


def _merge_sketch(sketch: Sketch, more: Sketch) -> None:
    for bucket, count in more.items():
        total = sketch.pop(bucket, 0) + count
        if total:
            sketch[bucket] = total


class OpenCells:
    """The cells of one partition whose minutes still take events."""

    def __init__(self) -> None:
        self._slot: dict[CellKey, int] = {}
        self._keys: list[CellKey | None] = []
        self._sums = np.zeros((1024, SUMS), np.int64)
        self._latency: list[Sketch] = []
        self._first_token: list[Sketch] = []
        self._free: list[int] = []
        self._by_minute: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._slot)

    def merge(self, folded: Folded) -> CellValues:
        """Return the absolute values the folded cells would have; the state stays as it is."""
        slot = self._slot
        slots = [slot.get(key, -1) for key in folded.keys]
        at = np.array(slots, np.int64)
        known = at >= 0
        sums = folded.sums.copy()
        sums[known] += self._sums[at[known]]
        latency, first_token = self._latency, self._first_token
        return CellValues(
            folded.keys,
            sums,
            _add_counts([latency[s].copy() if s >= 0 else {} for s in slots], folded.latency),
            _add_counts(
                [first_token[s].copy() if s >= 0 else {} for s in slots], folded.first_token
            ),
            slots,
        )

    def added(self, values: CellValues) -> NDArray[np.int64]:
        """Return by how much absolute values are above what is here, shape (cells, SUMS)."""
        find = self._slot.get
        known = values.slots or [find(key, -1) for key in values.keys]
        at = np.array(known, np.int64)
        sums = values.sums.copy()
        sums[at >= 0] -= self._sums[at[at >= 0]]
        return sums

    def apply(self, values: CellValues) -> None:
        """Put absolute values in the place of what was there.

        Values that `merge` gave must be applied before any others are.
        """
        if not len(values):
            return
        find = self._slot.get
        known = values.slots or [find(key, -1) for key in values.keys]
        slots = [
            slot if slot >= 0 else self._new_slot(key)
            for slot, key in zip(known, values.keys, strict=True)
        ]
        latency, first_token = self._latency, self._first_token
        for slot, latencies, first_tokens in zip(
            slots, values.latency, values.first_token, strict=True
        ):
            latency[slot] = latencies
            first_token[slot] = first_tokens
        self._sums[np.array(slots, np.int64)] = values.sums

    def close(self, closed_us: int) -> int:
        """Drop the cells of minutes that ended at `closed_us` or before; return how many."""
        last_start = (closed_us - MINUTE_US) // 1_000_000
        closed = [minute for minute in self._by_minute if minute <= last_start]
        dropped = 0
        for minute in closed:
            slots = self._by_minute.pop(minute)
            for slot in slots:
                key = self._keys[slot]
                assert key is not None, "a slot of an open minute is in use"
                del self._slot[key]
                self._keys[slot] = None
                self._latency[slot] = {}
                self._first_token[slot] = {}
            self._free.extend(slots)
            dropped += len(slots)
        return dropped

    def sums_of(self, key: CellKey) -> list[int]:
        """Return the sums of one cell, zeros if it is not open."""
        slot = self._slot.get(key)
        return [0] * SUMS if slot is None else [int(amount) for amount in self._sums[slot]]

    def values(self) -> CellValues:
        """Return all open cells."""
        slots = list(self._slot.values())
        return CellValues(
            list(self._slot),
            self._sums[np.array(slots, np.int64)] if slots else NO_CELLS.sums,
            [self._latency[slot] for slot in slots],
            [self._first_token[slot] for slot in slots],
        )

    def _new_slot(self, key: CellKey) -> int:
        if self._free:
            slot = self._free.pop()
            self._keys[slot] = key
        else:
            slot = len(self._keys)
            self._keys.append(key)
            self._latency.append({})
            self._first_token.append({})
            if slot >= len(self._sums):
                self._sums = np.concatenate((self._sums, np.zeros_like(self._sums)))
        self._slot[key] = slot
        self._by_minute.setdefault(key[0], []).append(slot)
        return slot
