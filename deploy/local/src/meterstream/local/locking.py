"""Locks on data directories, so that no two processes work on one."""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from meterstream.local.errors import StartError

# A stack whose parent was killed needs some seconds to stop; the next one waits for it.
LOCK_WAIT_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Lock:
    """A file that is locked while somebody works beside it, and how long to wait for it."""

    path: Path
    wait_s: float = LOCK_WAIT_S


def take_lock(path: Path, name: str, *, wait_s: float = LOCK_WAIT_S) -> int:
    """Lock the file and return its descriptor; the lock lasts while one copy of it is open.

    Raises StartError when another process still holds it after `wait_s`, or
    when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(
            f"{name} cannot write {path}: {error.strerror or error}; "
            "choose a data directory that you may write to"
        ) from error
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                os.close(fd)
                raise StartError(
                    f"{name}: another process works on {path.parent}; stop it, "
                    "or choose another data directory"
                ) from None
            time.sleep(_POLL_S)
        else:
            return fd
