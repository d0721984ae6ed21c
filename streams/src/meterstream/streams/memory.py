"""How the C library keeps memory: what is large goes back to the system when it is free.

A meter makes buffers of megabytes for each batch (a fetch, a journal record, a snapshot) between
small objects that live on. glibc by itself learns from the first large buffer to take the next ones
from its heaps, where they leave holes. Other C libraries are left as they are.
"""

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Numbers of mallopt's parameters in glibc's malloc.h."""
LARGE_BYTES: Final = 1024 * 1024
"""From this size on, memory is mapped for one buffer alone."""
FREE_BYTES: Final = 16 * 1024 * 1024
"""So much may stay free at a heap's end, so that it does not grow and shrink with each batch."""


def _function(name: str) -> Any:
    """Return a function that only glibc has, None with another C library."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None


_MALLOPT: Final = _function("mallopt")
_MALLOC_TRIM: Final = _function("malloc_trim")


def map_large_buffers() -> None:
    """Have large buffers mapped alone from now on. For the start of a process."""
    if _MALLOPT is not None and _MALLOC_TRIM is not None:
        _MALLOPT(_MMAP_THRESHOLD, LARGE_BYTES)
        _MALLOPT(_TRIM_THRESHOLD, FREE_BYTES)


def give_back() -> None:
    """Return all free pages to the system. Takes milliseconds; other threads go on meanwhile."""
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)
