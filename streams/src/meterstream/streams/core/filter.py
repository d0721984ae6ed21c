"""A filter that says for most new ids at once that they were never seen.

A register-blocked Bloom filter (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom
Filters, 2007): an id sets four bits of a single 64-bit word. The word is chosen by the id's
highest bits, so ids in ascending order touch memory in ascending order.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS_PER_ID: Final = 12
_ONE: Final = np.uint64(1)
_SIX_BITS: Final = np.uint64(63)


def _masks(lo: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = _ONE << (lo & _SIX_BITS)
    for shift in (6, 12, 18):
        mask |= _ONE << ((lo >> np.uint64(shift)) & _SIX_BITS)
    return mask


class IdFilter:
    """May say yes for an id that was never added, in about one of fifty cases; never wrongly no."""

    def __init__(self, capacity: int) -> None:
        """Make room for `capacity` ids; more only make the wrong yes more frequent."""
        words = max(1, capacity * BITS_PER_ID // 64)
        self._bits = max(1, (words - 1).bit_length())
        self._words = np.zeros(1 << self._bits, np.uint64)
        self.capacity = (len(self._words) * 64) // BITS_PER_ID

    @property
    def nbytes(self) -> int:
        """Memory of the filter in bytes."""
        return self._words.nbytes

    def add(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> None:
        """Add ids, sorted by `hi`."""
        if not len(hi):
            return
        words = hi >> np.uint64(64 - self._bits)
        starts = np.concatenate(([0], np.flatnonzero(words[1:] != words[:-1]) + 1))
        self._words[words[starts]] |= np.bitwise_or.reduceat(_masks(lo), starts)

    def may_hold(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell for each id whether it may have been added."""
        mask = _masks(lo)
        found = self._words[hi >> np.uint64(64 - self._bits)]
        may: NDArray[np.bool_] = (found & mask) == mask
        return may
