"""The log of one slot: segment files that are appended to, read by a cursor, and deleted."""

import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meterstream.producers.exceptions import SpoolFailed, SpoolUnusable

from .acks import Acks
from .record import MAGIC, Record, pack, unpack

_LOGGER: Final = logging.getLogger("meterstream.producers")
_MARK: Final = struct.Struct(">qI")
_MARK_FILE: Final = "acknowledged"
REFUSED_FILE: Final = "refused.jsonl"
_SUFFIX: Final = ".segment"
_PRIVATE: Final = 0o600


class Segment:
    """One file of a log: the records from `first` on; `end` is where its good bytes end."""

    __slots__ = ("end", "first", "path")

    def __init__(self, path: Path, first: int, end: int) -> None:
        self.path = path
        self.first = first
        self.end = end


class SpoolLog:
    """An append-only log of accepted events, without holes, and what of it is settled.

    One thread appends, one reads and forgets; `size_bytes` may be asked by any. The caller holds
    the slot's lock. Writes reach the operating system before `append` returns, so they outlive a
    killed process; with `sync` they reach the disk, so they outlive a power cut.
    """

    def __init__(self, directory: Path, *, segment_bytes: int, sync: bool = False) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._lock = threading.Lock()
        self._file = -1
        self._mark_file = -1
        try:
            self._segments = self._open_segments()
            self.next_seq = self._find_end()
            self.acks = Acks(self._read_mark())
            # A power cut may lose segments and keep the mark: numbers below it are never reused.
            self.next_seq = max(self.next_seq, self.acks.low)
        except OSError as error:
            raise SpoolUnusable(f"{directory}: cannot be read: {error.strerror}") from error
        self._bytes = sum(segment.end for segment in self._segments) + self._refused_bytes()
        self._marked = self.acks.low

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments, and of what the broker refused."""
        return self._bytes

    @property
    def waiting(self) -> int:
        """Events that are not settled."""
        return max(0, self.next_seq - self.acks.low - self.acks.settled_above)

    def segments(self) -> list[Segment]:
        """Return the segments, oldest first."""
        with self._lock:
            return list(self._segments)

    def append(self, entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        """Write (accepted_us, key, value) of each entry; return the first one's number.

        All or none: SpoolFailed means that none of them is in the log.
        """
        first = self.next_seq
        data = b"".join(pack(Record(first + index, *entry)) for index, entry in enumerate(entries))
        try:
            if self._file < 0 or self._segments[-1].end >= self._segment_bytes:
                self._begin_segment()
            self._write(data)
        except OSError as error:
            raise SpoolFailed(
                f"{self.directory}: cannot be written: {error.strerror}; no event is accepted"
                " until it can (free disk space, or set spool_dir to a writable disk)"
            ) from error
        self.next_seq = first + len(entries)
        return first

    def forget_settled(self) -> int:
        """Delete segments that are settled whole, and keep the mark; return the bytes freed."""
        low = self.acks.low
        if low == self._marked:
            return 0
        freed = 0
        with self._lock:
            while len(self._segments) > 1 and self._segments[1].first <= low:
                segment = self._segments.pop(0)
                segment.path.unlink(missing_ok=True)
                freed += segment.end
            self._bytes -= freed
        self._write_mark(low)
        return freed

    def keep_refused(self, record: Record, reason: str) -> Path:
        """Set an event aside that the broker never takes: a line of JSON in the returned file."""
        line = {
            "reason": reason,
            "accepted_us": record.accepted_us,
            "event": record.value.decode(),
        }
        data = json.dumps(line).encode() + b"\n"
        path = self.directory / REFUSED_FILE
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
        try:
            os.write(file, data)
        finally:
            os.close(file)
        with self._lock:
            self._bytes += len(data)
        return path

    def close(self) -> bool:
        """Close the files; if all is settled, delete them. Tell whether nothing is left."""
        self.forget_settled()
        empty = self.acks.low >= self.next_seq
        self.abandon()
        if empty:
            for segment in self._segments:
                segment.path.unlink(missing_ok=True)
            (self.directory / _MARK_FILE).unlink(missing_ok=True)
            self._segments.clear()
            self._bytes = self._refused_bytes()
        return empty

    def abandon(self) -> None:
        """Close the files and touch nothing: for a forked child, whose parent goes on."""
        for name in ("_file", "_mark_file"):
            number = getattr(self, name)
            if number >= 0:
                os.close(number)
                setattr(self, name, -1)

    def _refused_bytes(self) -> int:
        path = self.directory / REFUSED_FILE
        return path.stat().st_size if path.exists() else 0

    def _open_segments(self) -> list[Segment]:
        found: list[Segment] = []
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            if not path.stem.isdigit():
                continue
            with path.open("rb") as file:
                head = file.read(len(MAGIC))
            if head == MAGIC:
                found.append(Segment(path, int(path.stem), path.stat().st_size))
            elif MAGIC.startswith(head):
                path.unlink()  # a kill came before its first record
            else:
                raise SpoolUnusable(
                    f"{path}: no segment of this version ({MAGIC.decode()}); start the version"
                    " that wrote it to send its events, or move the file away"
                )
        return found

    def _find_end(self) -> int:
        """Return the next sequence number, from the last segment that holds a record."""
        while self._segments:
            last = self._segments[-1]
            data = last.path.read_bytes()
            records, end = unpack(data, len(MAGIC))
            if len(data) > end:
                _LOGGER.warning(
                    "%s: the last %d bytes are no complete event: the process was killed while it"
                    " wrote them, before it accepted them; they are ignored",
                    last.path,
                    len(data) - end,
                )
            last.end = end
            if records:
                return records[-1].seq + 1
            self._segments.pop()
            last.path.unlink()
            if not self._segments:
                return last.first
        return self._read_mark()

    def _read_mark(self) -> int:
        """Return the kept low mark, or the oldest number that is there if it lies above."""
        oldest = self._segments[0].first if self._segments else 0
        try:
            data = (self.directory / _MARK_FILE).read_bytes()
        except FileNotFoundError:
            return oldest
        if len(data) != _MARK.size:
            return oldest
        low, crc = _MARK.unpack(data)
        if zlib.crc32(data[:8]) != crc:
            return oldest  # cut by a kill: some events are sent twice, and counted once
        return max(oldest, int(low))

    def _write_mark(self, low: int) -> None:
        if self._mark_file < 0:
            self._mark_file = os.open(
                self.directory / _MARK_FILE, os.O_WRONLY | os.O_CREAT, _PRIVATE
            )
        number = low.to_bytes(8, "big")
        os.pwrite(self._mark_file, number + zlib.crc32(number).to_bytes(4, "big"), 0)
        self._marked = low

    def _begin_segment(self) -> None:
        path = self.directory / f"{self.next_seq:020d}{_SUFFIX}"
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        if self._sync:
            sync_directory(self.directory)
        with self._lock:
            # If the first write to a segment failed, it is begun again under the same number.
            if not self._segments or self._segments[-1].first != self.next_seq:
                self._segments.append(Segment(path, self.next_seq, 0))

    def _write(self, data: bytes) -> None:
        segment = self._segments[-1]
        start = segment.end
        if start == 0:
            data = MAGIC + data
        view = memoryview(data)
        try:
            while view:
                view = view[os.pwrite(self._file, view, start + len(data) - len(view)) :]
            if self._sync:
                _sync_data(self._file)
        except OSError:
            # What was written of it must not stand before the next record. Where even that
            # fails, the next record begins a segment, and its number says what to ignore here.
            os.close(self._file)
            self._file = -1
            os.truncate(segment.path, start)
            raise
        with self._lock:
            segment.end += len(data)
            self._bytes += len(data)


_sync_data: Final = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def sync_directory(directory: Path) -> None:
    """Have the names in a directory outlive a power cut."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
