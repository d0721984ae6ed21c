"""Corrections: what control entries add to, or take from, what runs were counted with.

A correction is known by its run's event, within the team, and a number: adjustments have their
own, a void has none, so two voids of one run are one. Those that were taken are remembered for
good, 28 bytes each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from meterstream.schemas.control import UsageAdjusted, UsageVoided, UsageVoidedData
from meterstream.schemas.registry import InvalidEvent
from meterstream.schemas.rows import CELL_SUMS
from meterstream.schemas.sketch import bucket_of
from meterstream.schemas.times import to_us
from meterstream.schemas.verdicts import Verdict

from .cells import SUMS, CellKey, CellValues, Sketch
from .dedup import Dedup, expiry_us
from .identity import identity_digest, split_digests
from .policy import HOUR_US, MINUTE_US

CorrectionEvent = UsageAdjusted | UsageVoided

VOID: Final = 0
"""The number of a void."""

_ROW: Final = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("number", "<u4"), ("content", "<u8")])
_Rows = NDArray[np.void]
CORRECTED_BYTES: Final = _ROW.itemsize
"""Bytes that a correction takes which was taken once."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction that was taken, and where its entry stands in the control topic."""

    offset: int
    event: CorrectionEvent

    @property
    def number(self) -> int:
        """The adjustment's number; VOID for a void."""
        return number_of(self.event)

    @property
    def time_us(self) -> int:
        """The event time of the run that it puts right."""
        return to_us(self.event.data.original_time)

    @property
    def key(self) -> CellKey:
        """The cell, of a minute, that the run was counted in."""
        data = self.event.data
        return (
            self.time_us // MINUTE_US * 60,
            data.team_id,
            data.user_id or "",
            data.project_id or "",
            data.agent_id or "",
            data.model or "",
            data.provider or "",
            data.feature_id or "",
            data.product or "",
            data.operation,
        )

    @property
    def sums(self) -> list[int]:
        """What it adds to the sums of the cell, in the order of `rows.CELL_SUMS`."""
        data = self.event.data
        return [getattr(data, column.name, None) or 0 for column in CELL_SUMS]

    @property
    def buckets(self) -> tuple[int | None, int | None]:
        """The buckets of latency and time to first token that it takes one value out of."""
        data = self.event.data
        if not isinstance(data, UsageVoidedData):
            return None, None
        first_token_us = data.first_token_us
        return bucket_of(-data.latency_us), (
            None if first_token_us is None else bucket_of(-first_token_us)
        )


def number_of(event: CorrectionEvent) -> int:
    """Return an adjustment's number; VOID for a void."""
    return VOID if isinstance(event, UsageVoided) else event.data.number


def values_of(corrections: Sequence[Correction], grain_seconds: int = 60) -> CellValues:
    """Return what corrections add to the cells of a grain, as values of their own."""
    index: dict[CellKey, int] = {}
    sums: list[list[int]] = []
    latency: list[Sketch] = []
    first_token: list[Sketch] = []
    for one in corrections:
        at = index.setdefault(
            (one.key[0] // grain_seconds * grain_seconds, *one.key[1:]), len(index)
        )
        if at == len(sums):
            sums.append([0] * SUMS)
            latency.append({})
            first_token.append({})
        sums[at] = [a + b for a, b in zip(sums[at], one.sums, strict=True)]
        for sketch, bucket in zip((latency[at], first_token[at]), one.buckets, strict=True):
            if bucket is not None:
                sketch[bucket] = sketch.get(bucket, 0) - 1
    return CellValues(list(index), np.array(sums, np.int64), latency, first_token)


class Corrected:
    """Which corrections were taken, of which run and with which content. Immutable."""

    def __init__(self, rows: _Rows | None = None) -> None:
        self._rows: _Rows = np.zeros(0, _ROW) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def with_taken(self, events: Sequence[CorrectionEvent]) -> "Corrected":
        """Return it with corrections that were not known."""
        if not events:
            return self
        return self._with(np.array([_row(event) for event in events], _ROW))

    def of(self, event: CorrectionEvent) -> dict[int, int]:
        """Return the corrections of the run that `event` is about: their content by number."""
        hi, lo, _, _ = _row(event)
        every = self._rows["hi"]
        first = int(np.searchsorted(every, np.uint64(hi), side="left"))
        last = int(np.searchsorted(every, np.uint64(hi), side="right"))
        found = self._rows[first:last]
        found = found[found["lo"] == np.uint64(lo)]
        return dict(zip(found["number"].tolist(), found["content"].tolist(), strict=True))

    def to_bytes(self) -> bytes:
        """Return all of them as bytes."""
        return self._rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> "Corrected":
        """Return what `to_bytes` wrote, or a part of it; ValueError if bytes are missing."""
        return cls(np.frombuffer(data, _ROW))

    def with_all(self, others: "Corrected") -> "Corrected":
        """Return these and others, none of which is among these."""
        return self._with(others._rows)

    def _with(self, rows: _Rows) -> "Corrected":
        added = np.sort(rows, order=("hi", "lo"))
        at = np.searchsorted(self._rows["hi"], added["hi"], side="right")
        return Corrected(np.insert(self._rows, at, added))


def _row(event: CorrectionEvent) -> tuple[int, int, int, int]:
    hi, lo = split_digests([identity_of(event)])
    return int(hi[0]), int(lo[0]), number_of(event), content_of(event)


def identity_of(event: CorrectionEvent) -> bytes:
    """Return the identity of the event whose run is put right."""
    data = event.data
    return identity_digest(data.team_id, data.original_source, data.original_id)


def refund_id(event: CorrectionEvent) -> str:
    """Return the id of the grant that a correction gives back where the grants it drew are gone."""
    return f"refund/{identity_of(event).hex()}/{number_of(event)}"


def content_of(event: CorrectionEvent) -> int:
    """Return 64 bits that differ where two corrections say different things; reasons do not."""
    text = event.data.model_dump_json(exclude={"reason"}, exclude_none=True)
    return xxhash.xxh3_64_intdigest(text.encode())


@dataclass(frozen=True, slots=True)
class Counted:
    """What a partition knows of the events that it counted, as of a clock."""

    dedup: Dedup
    horizon_us: int
    clock_us: int
    since_us: int
    """Identities of events from here on are all known."""

    def check(self, event: CorrectionEvent) -> None:
        """Raise InvalidEvent if the event of the run is surely not one that was counted.

        Those older than the horizon are not known any more: who corrects them looked them up.
        """
        time_us = to_us(event.data.original_time)
        if time_us < max(self.clock_us - self.horizon_us, self.since_us):
            return
        hi, lo = split_digests([identity_of(event)])
        known, _, expiry = self.dedup.find(hi, lo)
        if not known[0]:
            raise InvalidEvent(
                Verdict.NOT_ALLOWED,
                "data.original_id: no event of this team, source and id was counted",
            )
        if int(expiry[0]) != expiry_us(time_us // HOUR_US, self.horizon_us):
            raise InvalidEvent(
                Verdict.NOT_ALLOWED,
                "data.original_time: the event of this team, source and id has another time",
            )


def is_new(known: dict[int, int], event: CorrectionEvent) -> bool:
    """Tell whether a correction is to be taken.

    `known` are those of its run that were, their content by number. Raises InvalidEvent where it
    contradicts one of them.
    """
    number, content = number_of(event), content_of(event)
    if number in known:
        if known[number] == content:
            return False
        field = "original_id" if number == VOID else "number"
        raise InvalidEvent(
            Verdict.NOT_ALLOWED,
            f"data.{field}: this run has such a correction already, with other data",
        )
    if VOID in known:
        raise InvalidEvent(
            Verdict.NOT_ALLOWED, "data.original_id: this run was voided, nothing of it is left"
        )
    return True
