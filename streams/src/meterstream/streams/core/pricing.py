"""Completed runs with their prices and cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.pricing import EXPLICIT, UNPRICED

from .cells import CellKey
from .columns import RunColumns, cell_keys
from .decode import Completed
from .prices import COMPONENTS, PriceBook, Quantities

_I64 = NDArray[np.int64]

_LABEL_UNPRICED: Final = 0
_LABEL_EXPLICIT: Final = 1
_LABEL_CARDS: Final = 2


@dataclass(frozen=True, slots=True)
class Priced:
    """Completed runs. All arrays have one length, but for those that say otherwise."""

    at: _I64
    """Position among the valid events."""
    times_us: _I64
    keys: Sequence[CellKey]
    """The different cells of the runs."""
    cell: _I64
    """Which of `keys` a run belongs to."""
    columns: RunColumns
    components: _I64
    """Credits by component, shape (COMPONENTS + 1, runs); the last row are explicit credits."""
    total_micro: _I64
    labels: Sequence[str]
    """What may have priced a run: `unpriced`, `explicit`, then each card."""
    label: _I64
    """Which of `labels` it was."""

    @property
    def unpriced(self) -> _I64:
        """1 where no card priced the run, else 0."""
        unpriced: _I64 = (self.label == _LABEL_UNPRICED).astype(np.int64)
        return unpriced

    def chosen(self, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the runs are counted, given that of all valid events."""
        return counted[self.at]


def price_runs(
    book: PriceBook,
    runs: Sequence[Completed],
    at: _I64,
    columns: RunColumns,
    all_times_us: _I64,
) -> Priced:
    """Price runs by the cards in force at their event times; explicit credits are taken as is."""
    times_us = all_times_us[at]
    index: dict[CellKey, int] = {}
    enter = index.setdefault
    every_key = cell_keys([run.data for run in runs], times_us)
    cell = np.array([enter(key, len(index)) for key in every_key], np.int64)
    keys = list(index)
    book.trim()
    card = book.card_at(times_us)
    lines = _lines(book, keys, cell, card)
    components = np.empty((COMPONENTS + 1, len(at)), np.int64)
    quantities = Quantities(
        (
            columns.input_tokens - columns.cached_tokens,
            columns.output_tokens - columns.reasoning_tokens,
            columns.cached_tokens,
            columns.reasoning_tokens,
        ),
        (columns.request_bytes, columns.response_bytes),
    )
    components[:COMPONENTS] = book.components(lines, quantities)
    explicit = columns.explicit_micro >= 0
    components[:, explicit] = 0
    components[COMPONENTS] = np.where(explicit, columns.explicit_micro, 0)
    label = np.where(lines > 0, card + _LABEL_CARDS, _LABEL_UNPRICED)
    label[explicit] = _LABEL_EXPLICIT
    labels = [UNPRICED, EXPLICIT, *book.labels]
    return Priced(
        at, times_us, keys, cell, columns, components, components.sum(axis=0), labels, label
    )


def _lines(book: PriceBook, keys: Sequence[CellKey], cell: _I64, card: _I64) -> _I64:
    """Return the price line of each run: found once a cell where one card prices them all."""
    if not len(cell):
        return cell
    first = int(card[0])
    if (card == first).all():
        return np.array([book.line_index(first, key) for key in keys], np.int64)[cell]
    return np.array(
        [
            book.line_index(one, keys[i])
            for one, i in zip(card.tolist(), cell.tolist(), strict=True)
        ],
        np.int64,
    )
