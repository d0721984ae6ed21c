"""Where a demonstration keeps its data: a directory of its own, made anew each time."""

import os
import shutil
from pathlib import Path
from typing import Final

from meterstream.cli.errors import BadInput
from meterstream.local.errors import StartError
from meterstream.local.locking import take_lock

DEFAULT: Final = ".meterstream-demo"
PLACES_MAX: Final = 20


def fresh_place(given: Path | None) -> Path:
    """Return an empty directory: the one given, else the first default one that no stack uses.

    What an earlier demonstration left in a default directory is removed. A given directory is
    never emptied.
    """
    if given is not None:
        if given.exists() and any(given.iterdir()):
            raise BadInput(f"{given} is not empty: the demo needs a directory of its own")
        return given
    for number in range(PLACES_MAX):
        place = Path(DEFAULT if number == 0 else f"{DEFAULT}-{number + 1}")
        if _emptied(place):
            return place
    raise BadInput(f"{PLACES_MAX} demos run here: stop some, or name a directory with --data")


def _emptied(place: Path) -> bool:
    if not place.exists():
        return True
    try:
        lock = take_lock(place / "lock", "the demo", wait_s=0)
    except StartError:
        return False  # a demo that was kept runs there
    try:
        for entry in place.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
    finally:
        os.close(lock)
    return True
