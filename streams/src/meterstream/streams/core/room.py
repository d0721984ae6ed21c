"""Room in a cell: what a cell sums up stays far below what 64 bits hold.

No honest minute comes near the bound, so batches are folded at once and looked at afterwards; a
batch that passes it is judged again, event by event, so that the verdict names the event that no
longer fits and does not depend on where the batch begins.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .cells import CellKey, CellValues, OpenCells
from .pricing import Priced
from .session_time import TOO_DEAR, SessionTime

MAX_CELL_SUM: Final = 2**62
"""The most that a measure of one cell adds up to. A single batch cannot add as much once more."""


NO_ROOM: Final = "a sum of the run's cell would pass what a cell holds"


class CellFull(ArithmeticError):
    """A batch adds more to a cell than it may hold, or more session time than one sign may."""


def check_room(values: CellValues) -> None:
    """Raise CellFull if a measure of a cell has passed its bound."""
    if len(values) and int(values.sums.max()) > MAX_CELL_SUM:
        raise CellFull


class Room:
    """What still fits into the open cells, event by event, in the order of their offsets."""

    def __init__(
        self,
        cells: OpenCells,
        runs: Priced,
        measures: NDArray[np.int64],
        on_time: NDArray[np.bool_],
        time: SessionTime,
        signs_on_time: NDArray[np.bool_],
    ) -> None:
        self.refused: dict[int, str] = {}
        """Why events did not fit, by their positions among the valid ones."""
        self._cells = cells
        self._runs = runs
        self._measures = measures
        self._on_time = on_time
        self._run_of = {event: run for run, event in enumerate(runs.at.tolist())}
        self._time = time
        self._signs = frozenset(time.signs())
        self._signs_on_time = signs_on_time
        self._sums: dict[CellKey, list[int]] = {}

    def take(self, event: int) -> bool:
        """Add the event at a position among the valid ones to its cell; False if it does not fit.

        Late events fit always: their rows hold no more than one batch.
        """
        if event in self._signs:
            return self._take_sign(event)
        run = self._run_of.get(event)
        if run is None or not self._on_time[run]:
            return True
        key = self._runs.keys[int(self._runs.cell[run])]
        return self._add(event, key, self._measures[:, run].tolist())

    def _take_sign(self, event: int) -> bool:
        session, span = self._time.look(event)
        if span is not None and span.is_too_dear:
            self.refused[event] = TOO_DEAR
            return False
        if (
            span is not None
            and self._signs_on_time[event]
            and not self._add(event, span.key, span.sums)
        ):
            return False
        self._time.take(session, span)
        return True

    def _add(self, event: int, key: CellKey, added: Sequence[int]) -> bool:
        sums = self._sums.get(key)
        if sums is None:
            sums = self._cells.sums_of(key)
        after = [a + b for a, b in zip(sums, added, strict=True)]
        if max(after) > MAX_CELL_SUM:
            self.refused[event] = NO_ROOM
            return False
        self._sums[key] = after
        return True
