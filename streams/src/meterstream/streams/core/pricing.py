"""What a batch charges: completed runs and session time, with their prices and cells."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.fields import MAX_CREDITS_MICRO
from meterstream.schemas.pricing import EXPLICIT, UNPRICED
from meterstream.schemas.rows import CHARGE_COMPONENTS

from .cells import CellKey
from .columns import RunColumns, cell_keys
from .decode import Completed
from .prices import COMPONENTS, UNPRICED_CARD, PriceBook, Quantities
from .session_time import Span

_I64 = NDArray[np.int64]

_LABEL_UNPRICED: Final = 0
_LABEL_EXPLICIT: Final = 1
_LABEL_CARDS: Final = 2

_EXPLICIT, _SESSION = (
    [column.name for column in CHARGE_COMPONENTS].index(name)
    for name in ("explicit_micro", "session_micro")
)
_NO_LATENCY: Final = ("latency_us", "first_token_us")


@dataclass(frozen=True, slots=True)
class Priced:
    """What is charged. All arrays have one length, but for those that say otherwise."""

    at: _I64
    """Position among the valid events."""
    times_us: _I64
    keys: Sequence[CellKey]
    """The different cells."""
    cell: _I64
    """Which of `keys` a charge belongs to."""
    columns: RunColumns
    components: _I64
    """Credits by component, shape (CHARGE_COMPONENTS, charges)."""
    total_micro: _I64
    labels: Sequence[str]
    """What may have priced a charge: `unpriced`, `explicit`, then each card."""
    label: _I64
    """Which of `labels` it was."""
    line: _I64
    """Which line of the card, -1 for none."""
    multiplier_ppm: _I64
    amount_micro: _I64
    cost_micro: _I64
    session_us: _I64
    """0 for runs, and never for session time."""
    sessions: list[str]
    """The different sessions whose time is charged, after an empty one."""
    session: _I64
    """Which of `sessions` each is of; 0 for runs."""

    @property
    def unpriced(self) -> _I64:
        """1 where no card said the price, else 0."""
        unpriced: _I64 = (self.label == _LABEL_UNPRICED).astype(np.int64)
        return unpriced

    @property
    def runs(self) -> _I64:
        """1 for a run, 0 for session time."""
        runs: _I64 = (self.session_us == 0).astype(np.int64)
        return runs

    @property
    def too_dear(self) -> NDArray[np.bool_]:
        """Which of them cost more than one charge may."""
        most = np.maximum(self.total_micro, np.maximum(self.amount_micro, self.cost_micro))
        too_dear: NDArray[np.bool_] = most > MAX_CREDITS_MICRO
        return too_dear

    def chosen(self, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of them are counted, given that of all valid events."""
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
    rows = _rows(book, keys, cell, card)
    explicit = columns.explicit_micro >= 0
    rows[explicit] = 0
    quantities = Quantities(
        (
            columns.input_tokens - columns.cached_tokens,
            columns.output_tokens - columns.reasoning_tokens,
            columns.cached_tokens,
            columns.reasoning_tokens,
        ),
        (columns.request_bytes, columns.response_bytes),
    )
    components = np.zeros((len(CHARGE_COMPONENTS), len(at)), np.int64)
    components[:COMPONENTS] = book.components(rows, quantities)
    components[_EXPLICIT] = np.where(explicit, columns.explicit_micro, 0)
    label = np.where(rows > 0, card + _LABEL_CARDS, _LABEL_UNPRICED)
    label[explicit] = _LABEL_EXPLICIT
    return Priced(
        at,
        times_us,
        keys,
        cell,
        columns,
        components,
        components.sum(axis=0),
        [UNPRICED, EXPLICIT, *book.labels],
        label,
        *book.lines(rows),
        *book.money(rows, quantities),
        np.zeros(len(at), np.int64),
        [""],
        np.zeros(len(at), np.int64),
    )


def _rows(book: PriceBook, keys: Sequence[CellKey], cell: _I64, card: _I64) -> _I64:
    """Return the price row of each run: found once a cell where one card prices them all."""
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


def with_session_time(runs: Priced, spans: Sequence[Span]) -> Priced:
    """Return what runs and session time charge together, in the order of their events."""
    if not spans:
        return runs
    index = {key: i for i, key in enumerate(runs.keys)}
    cell = [index.setdefault(span.key, len(index)) for span in spans]
    sessions = {"": 0}
    session = [sessions.setdefault(span.session_id, len(sessions)) for span in spans]
    at = np.concatenate((runs.at, [span.at for span in spans]))
    order = np.argsort(at, kind="stable")
    credits_micro = _of(spans, "credits_micro")
    components = np.zeros((len(CHARGE_COMPONENTS), len(spans)), np.int64)
    components[_SESSION] = credits_micro
    card = _of(spans, "card")
    label = np.where(card == UNPRICED_CARD, _LABEL_UNPRICED, card + _LABEL_CARDS)

    def joined(first: _I64, second: _I64) -> _I64:
        return np.concatenate((first, second))[order]

    return Priced(
        at[order],
        joined(runs.times_us, _of(spans, "time_us")),
        list(index),
        joined(runs.cell, np.array(cell, np.int64)),
        _with_none(runs.columns, len(spans), order),
        np.concatenate((runs.components, components), axis=1)[:, order],
        joined(runs.total_micro, credits_micro),
        runs.labels,
        joined(runs.label, label),
        joined(runs.line, np.full(len(spans), -1, np.int64)),
        joined(runs.multiplier_ppm, _of(spans, "multiplier_ppm")),
        joined(runs.amount_micro, _of(spans, "amount_micro")),
        joined(runs.cost_micro, _of(spans, "cost_micro")),
        joined(runs.session_us, _of(spans, "session_us")),
        list(sessions),
        joined(runs.session, np.array(session, np.int64)),
    )


def _of(spans: Sequence[Span], name: str) -> _I64:
    return np.array([getattr(span, name) for span in spans], np.int64)


def _with_none(columns: RunColumns, count: int, order: _I64) -> RunColumns:
    """Return columns with as many more that used nothing, put in order."""
    return RunColumns(
        **{
            field.name: np.concatenate(
                (
                    values := getattr(columns, field.name),
                    np.full(count, -1 if field.name in _NO_LATENCY else 0, values.dtype),
                )
            )[order]
            for field in fields(columns)
        }
    )
