"""What counted events used one by one: which of them brought a running total to an amount."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .cells import CellKey
from .totals import MEASURES, Subjects
from .windows import Window

_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Uses:
    """What counted events used, in the order of their offsets. Arrays of one length."""

    keys: Sequence[CellKey]
    """The different cells they belong to."""
    cell: _I64
    """Which of `keys` each belongs to."""
    amounts: _I64
    """Shape (uses, MEASURES); none is negative."""

    def totals(self) -> _I64:
        """Return what was used by cell, shape (keys, MEASURES)."""
        order = np.argsort(self.cell, kind="stable")
        by_cell = self.cell[order]
        starts = np.concatenate(([0], np.flatnonzero(by_cell[1:] != by_cell[:-1]) + 1))
        found: _I64 = np.add.reduceat(self.amounts[order], starts, axis=0)
        return found


NO_USES: Final = Uses((), np.zeros(0, np.int64), np.zeros((0, len(MEASURES)), np.int64))


@dataclass(frozen=True, slots=True)
class Running:
    """The running total of one limit over the uses that it counts."""

    at: _I64
    """Which uses these are."""
    totals: _I64

    def first(self, amount: int) -> tuple[int, int]:
        """Return the first total that comes to an amount, and the use with which it does."""
        i = int(np.searchsorted(self.totals, amount))
        return int(self.totals[i]), int(self.at[i])


class Walk:
    """Finds the uses of a subject one by one."""

    def __init__(self, uses: Uses, subjects: Subjects) -> None:
        self._uses = uses
        self._by_cell = np.argsort(uses.cell, kind="stable")
        ends = np.searchsorted(uses.cell[self._by_cell], np.arange(len(uses.keys) + 1))
        self._ends: list[int] = ends.tolist()
        self._cells: dict[int, list[int]] = {}
        for cell, key in enumerate(uses.keys):
            for subject in subjects.of(key):
                self._cells.setdefault(subject, []).append(cell)

    def over(self, subject: int, measure: int, window: Window, before: int) -> Running:
        """Return the running total of a subject's measure in a window; it was `before`."""
        keys, ends = self._uses.keys, self._ends
        its_uses = [
            self._by_cell[ends[cell] : ends[cell + 1]]
            for cell in self._cells.get(subject, ())
            if window.start_us <= keys[cell][0] * 1_000_000 < window.end_us
        ]
        at = np.sort(np.concatenate([np.zeros(0, np.int64), *its_uses]))
        amounts = self._uses.amounts[at, measure]
        counts = amounts > 0
        return Running(at[counts], before + np.cumsum(amounts[counts]))
