"""The spool directory: one slot a process, held by a lock; slots of dead processes are adopted."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from meterstream.producers.exceptions import SpoolUnusable

from .log import SpoolLog, sync_directory

_LOCK_FILE: Final = "lock"
_PREFIX: Final = "slot-"
_MOST_SLOTS: Final = 10_000
_SEGMENTS_A_SPOOL: Final = 64
_SEGMENT_BYTES: Final = (64 * 1024, 8 * 1024 * 1024)


class Slot:
    """A directory within the spool that this process owns, and the log in it."""

    def __init__(self, lock: int, log: SpoolLog) -> None:
        self._lock = lock
        self.log = log

    def close(self) -> bool:
        """Give the slot up; if nothing is left in it, remove it. Tell whether it was empty."""
        empty = self.log.close()
        directory = self.log.directory
        if empty and {path.name for path in directory.iterdir()} == {_LOCK_FILE}:
            (directory / _LOCK_FILE).unlink()
            with contextlib.suppress(OSError):  # another process has just taken it
                directory.rmdir()
        self.abandon()
        return empty

    def abandon(self) -> None:
        """Close the files and touch nothing: in a forked child, the parent keeps the lock."""
        self.log.abandon()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class SpoolRoot:
    """A spool directory that the processes of one service share.

    `on_unusable` is told of a slot that was left there and cannot be read; it stays as it is, and
    the others are used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        sync: bool,
        on_unusable: Callable[[SpoolUnusable], None],
    ) -> None:
        least, most = _SEGMENT_BYTES
        self._segment_bytes = min(most, max(least, max_bytes // _SEGMENTS_A_SPOOL))
        self._sync = sync
        self._on_unusable = on_unusable
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if sync:
                sync_directory(directory.parent)
        except OSError as error:
            raise _unusable(directory, error) from error

    def claim(self) -> Slot:
        """Return a slot for this process: one that a dead process left, else a new one."""
        for slot in self._free_slots():
            return slot
        for number in range(_MOST_SLOTS):
            path = self.directory / f"{_PREFIX}{number:04d}"
            try:
                path.mkdir(mode=0o700)
                if self._sync:
                    sync_directory(self.directory)
            except FileExistsError:
                continue  # another process's, or one that cannot be read
            except OSError as error:
                raise _unusable(path, error) from error
            if (fresh := self._take(path)) is not None:
                return fresh
        raise SpoolUnusable(f"{self.directory}: all {_MOST_SLOTS:,} slots are in use")

    def adopt(self) -> list[Slot]:
        """Return the slots of dead processes in which events wait; empty ones are removed."""
        adopted: list[Slot] = []
        for slot in self._free_slots():
            if slot.log.waiting:
                adopted.append(slot)
            else:
                slot.close()
        return adopted

    def _free_slots(self) -> Iterator[Slot]:
        for path in sorted(self.directory.glob(f"{_PREFIX}*")):
            try:
                slot = self._take(path) if path.is_dir() else None
            except SpoolUnusable as error:
                self._on_unusable(error)
                continue
            if slot is not None:
                yield slot

    def _take(self, path: Path) -> Slot | None:
        """Return the slot if its lock is free, None if another process or publisher holds it."""
        lock_path = path / _LOCK_FILE
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None  # its owner has just removed it
        except OSError as error:
            raise _unusable(lock_path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.fstat(lock)
            named = lock_path.stat()
        except (BlockingIOError, FileNotFoundError):
            os.close(lock)
            return None
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            os.close(lock)  # its owner removed it, and somebody else made it again
            return None
        try:
            return Slot(lock, SpoolLog(path, segment_bytes=self._segment_bytes, sync=self._sync))
        except SpoolUnusable:
            os.close(lock)
            raise


def _unusable(path: Path, error: OSError) -> SpoolUnusable:
    return SpoolUnusable(
        f"{path}: cannot be used: {error.strerror}; set spool_dir to a directory that this user"
        " may write"
    )
