"""Which identities were counted before: exact, over the whole horizon, in about 22 bytes an id.

Ids stand in sorted runs, each of one hour of event time, so that a whole run is forgotten at once
when its hour is past. Small runs of an hour are merged into larger ones. Runs are grouped in
eras, each behind a filter that rules out nearly every new id without a search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .filter import IdFilter
from .policy import HOUR_US, IDS_KEPT_LONGER_US

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]

ERA_IDS: Final = 1 << 22
"""Ids in a full era."""
FIRST_ERA_IDS: Final = 1 << 16
MERGE_RUNS: Final = 8
"""So many runs of one hour and similar size are merged into one."""
ID_BYTES: Final = 24
"""Bytes an id takes in the journal and in snapshots: 16 of hash, 4 of content, 4 of hour."""


def expiry_us(hour: int, horizon_us: int) -> int:
    """Return the clock at which ids of events in `hour` (since 1970) are forgotten."""
    return (hour + 1) * HOUR_US + horizon_us + IDS_KEPT_LONGER_US


@dataclass(frozen=True, slots=True)
class Ids:
    """Identities with the fingerprint of their content and the hour of their event time.

    Four arrays of one length: the identity's high and low 64 bits, 32 bits of content, hours
    since 1970. Sorted by `hi`.
    """

    hi: _U64
    lo: _U64
    content: _U32
    hour: _U32

    def __len__(self) -> int:
        return len(self.hi)

    @classmethod
    def of(cls, hi: _U64, lo: _U64, content: _U32, hour: _U32) -> "Ids":
        """Return the ids in sorted order."""
        order = np.argsort(hi, kind="stable")
        return cls(hi[order], lo[order], content[order], hour[order])

    def to_bytes(self) -> bytes:
        """Return the ids as bytes: each array in turn, little-endian."""
        return b"".join(
            (
                self.hi.astype("<u8").tobytes(),
                self.lo.astype("<u8").tobytes(),
                self.content.astype("<u4").tobytes(),
                self.hour.astype("<u4").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "Ids":
        """Return the ids that `to_bytes` wrote; ValueError if bytes are missing."""
        count, rest = divmod(len(data), ID_BYTES)
        if rest:
            raise ValueError(f"{len(data)} bytes are no whole number of ids")
        return cls(
            np.frombuffer(data, "<u8", count, 0).astype(np.uint64),
            np.frombuffer(data, "<u8", count, 8 * count).astype(np.uint64),
            np.frombuffer(data, "<u4", count, 16 * count).astype(np.uint32),
            np.frombuffer(data, "<u4", count, 20 * count).astype(np.uint32),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Ids of events in one hour, sorted by `hi`. Never changed once made."""

    hour: int
    hi: _U64
    lo: _U64
    content: _U32

    def __len__(self) -> int:
        return len(self.hi)

    @property
    def nbytes(self) -> int:
        """Memory of the run in bytes."""
        return self.hi.nbytes + self.lo.nbytes + self.content.nbytes

    def ids(self) -> Ids:
        """Return the run as ids."""
        return Ids(self.hi, self.lo, self.content, np.full(len(self.hi), self.hour, np.uint32))

    def find(self, hi: _U64, lo: _U64) -> NDArray[np.int64]:
        """Return the position of each id in the run, -1 where it is not in it."""
        at = np.searchsorted(self.hi, hi)
        found = np.full(len(hi), -1, np.int64)
        open_ = np.flatnonzero(at < len(self.hi))
        while len(open_):
            same = self.hi[at[open_]] == hi[open_]
            open_ = open_[same]
            hit = self.lo[at[open_]] == lo[open_]
            found[open_[hit]] = at[open_[hit]]
            open_ = open_[~hit]  # two ids that share their first 64 bits: look at the next
            at[open_] += 1
            open_ = open_[at[open_] < len(self.hi)]
        return found


def _merge(runs: Sequence[Run]) -> Run:
    hi = np.concatenate([run.hi for run in runs])
    order = np.argsort(hi, kind="stable")
    return Run(
        runs[0].hour,
        hi[order],
        np.concatenate([run.lo for run in runs])[order],
        np.concatenate([run.content for run in runs])[order],
    )


def _size_class(run: Run) -> int:
    return (len(run).bit_length() - 1) // 3


def _full_class(runs: Sequence[Run]) -> tuple[int, list[Run]] | None:
    """Return a size class that holds enough runs of one hour to merge them, with these runs."""
    classes: dict[int, list[Run]] = {}
    for run in runs:
        classes.setdefault(_size_class(run), []).append(run)
    return next(((size, some) for size, some in classes.items() if len(some) >= MERGE_RUNS), None)


@dataclass(slots=True)
class _Era:
    filter: IdFilter
    by_hour: dict[int, list[Run]] = field(default_factory=dict)
    added: int = 0

    @property
    def runs(self) -> Iterator[Run]:
        return chain.from_iterable(self.by_hour.values())

    def add(self, run: Run) -> None:
        self.filter.add(run.hi, run.lo)
        self.added += len(run)
        # Only the run's own hour is looked at: of a long horizon there are hundreds.
        runs = self.by_hour[run.hour] = [*self.by_hour.get(run.hour, ()), run]
        while (full := _full_class(runs)) is not None:
            runs[:] = [one for one in runs if _size_class(one) != full[0]]
            runs.append(_merge(full[1]))


class Dedup:
    """The identities that were counted within the horizon of one partition."""

    def __init__(self, horizon_us: int) -> None:
        self._horizon_us = horizon_us
        self._eras: list[_Era] = []

    @property
    def count(self) -> int:
        """Number of ids that are kept."""
        return sum(len(run) for era in self._eras for run in era.runs)

    @property
    def nbytes(self) -> int:
        """Memory of ids and filters in bytes."""
        return sum(era.filter.nbytes + sum(run.nbytes for run in era.runs) for era in self._eras)

    def runs(self) -> Iterator[Run]:
        """Yield every run."""
        for era in self._eras:
            yield from era.runs

    def find(self, hi: _U64, lo: _U64) -> tuple[NDArray[np.bool_], _U32, NDArray[np.int64]]:
        """Look ids up, sorted by `hi` or not (sorted is faster).

        Returns, for each: whether it is known, its content's fingerprint, and the clock in
        microseconds at which it is forgotten. An id is known if it was added, whatever the clock:
        the caller compares the clock at the event.
        """
        known = np.zeros(len(hi), np.bool_)
        content = np.zeros(len(hi), np.uint32)
        expiry = np.zeros(len(hi), np.int64)
        for era in self._eras:
            maybe = np.flatnonzero(era.filter.may_hold(hi, lo))
            if not len(maybe):
                continue
            some_hi, some_lo = hi[maybe], lo[maybe]
            for run in era.runs:
                at = run.find(some_hi, some_lo)
                hit = at >= 0
                if not hit.any():
                    continue
                where = maybe[hit]
                run_expiry = expiry_us(run.hour, self._horizon_us)
                newer = expiry[where] < run_expiry  # an id may come back after it was forgotten
                known[where] = True
                content[where[newer]] = run.content[at[hit][newer]]
                expiry[where[newer]] = run_expiry
        return known, content, expiry

    def add(self, ids: Ids) -> None:
        """Add ids that are not known."""
        if not len(ids):
            return
        for hour in np.unique(ids.hour).tolist():
            of_hour = ids.hour == hour
            self.add_run(Run(hour, ids.hi[of_hour], ids.lo[of_hour], ids.content[of_hour]))

    def add_run(self, run: Run) -> None:
        """Add a run of ids that are not known."""
        era = self._eras[-1] if self._eras else None
        if era is None or era.added + len(run) > era.filter.capacity:
            last = era.filter.capacity if era is not None else FIRST_ERA_IDS // 2
            era = _Era(IdFilter(max(len(run), min(2 * last, ERA_IDS))))
            self._eras.append(era)
        era.add(run)

    def forget(self, clock_us: int) -> None:
        """Drop the runs whose hour is past at `clock_us`."""
        for era in self._eras:
            for hour in [h for h in era.by_hour if expiry_us(h, self._horizon_us) <= clock_us]:
                del era.by_hour[hour]
        self._eras = [era for era in self._eras if era.by_hour]
