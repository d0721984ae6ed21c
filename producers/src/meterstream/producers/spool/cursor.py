"""Reads a log in order, from its low mark, while it is being appended to."""

import os
from collections.abc import Callable
from typing import Final

from meterstream.producers.exceptions import SpoolUnusable

from .log import Segment, SpoolLog
from .record import MAGIC, MAX_RECORD, Record, unpack

_CHUNK: Final = MAX_RECORD
"""Bytes read at once: at least one whole record."""


class Cursor:
    """The position of the one reader of a log.

    `on_damage` is told when records that should be there cannot be read, and how many they are;
    they are settled as lost, so that those after them go on.
    """

    def __init__(self, log: SpoolLog, on_damage: Callable[[SpoolUnusable, int], None]) -> None:
        self._log = log
        self._on_damage = on_damage
        self._segment: Segment | None = None
        self._file = -1
        self._at = 0
        self._seq = log.acks.low

    def read(self) -> list[Record]:
        """Return the next records that are not settled, a chunk at most; empty at the end."""
        end_seq = self._log.next_seq  # before the segments: what lies below it is readable
        while self._seq < end_seq:
            segment = self._segment or self._open_segment()
            after = self._after(segment)
            records = self._chunk(segment)
            if not records:
                if after is None:
                    self._lose(end_seq, segment)
                    continue
                self._lose(after.first, segment)
                self._close_segment()
                continue
            # A failed write may have left records whose numbers the next segment uses again. In
            # the last segment there is no limit: the writer may be ahead of `end_seq` by now.
            limit = records[-1].seq + 1 if after is None else after.first
            fresh = [
                record
                for record in records
                if self._seq <= record.seq < limit and not self._log.acks.is_settled(record.seq)
            ]
            self._seq = max(self._seq, min(records[-1].seq + 1, limit))
            if after is not None and self._seq >= after.first:
                self._close_segment()
            if fresh:
                return fresh
        return []

    def rewind(self) -> None:
        """Go back to the lowest event that is not settled."""
        self._close_segment()
        self._seq = self._log.acks.low

    def close(self) -> None:
        """Close the file."""
        self._close_segment()

    def _chunk(self, segment: Segment) -> list[Record]:
        length = min(_CHUNK, segment.end - self._at)
        data = os.pread(self._file, length, self._at) if length > 0 else b""
        records, used = unpack(data)
        self._at += used
        return records

    def _open_segment(self) -> Segment:
        """Open the last segment that begins at or before the position, else the next one."""
        segments = self._log.segments()
        before = [segment for segment in segments if segment.first <= self._seq]
        segment = before[-1] if before else segments[0]
        self._lose(segment.first, segment)
        self._file = os.open(segment.path, os.O_RDONLY)
        self._at = len(MAGIC)
        self._segment = segment
        return segment

    def _close_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._segment = None

    def _after(self, segment: Segment) -> Segment | None:
        # The segment itself may be forgotten by now, if all of it is settled.
        later = (other for other in self._log.segments() if other.first > segment.first)
        return next(later, None)

    def _lose(self, to: int, segment: Segment) -> None:
        """Settle the events from the position up to `to`, which cannot be read."""
        if to <= self._seq:
            return
        self._on_damage(
            SpoolUnusable(
                f"{segment.path}: damaged: events {self._seq} to {to - 1} of this slot, accepted"
                " earlier, cannot be read and are lost; check the disk, and have their services"
                " publish them again if they can (their ids stay the same)"
            ),
            to - self._seq,
        )
        for seq in range(self._seq, to):
            self._log.acks.settle(seq)
        self._seq = to
