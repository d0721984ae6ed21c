"""The usage sections of a record: cells, late rows by grain, charges and corrections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas.journal import Section
from meterstream.schemas.rows import CELL_SUMS, CHARGE_COMPONENTS, SESSION

from .arrow import CHARGE_SCHEMA, CORRECTION_SCHEMA, SESSION_SCHEMA, encode_cells, encode_columns
from .batch import EventBatch
from .cells import NO_CELLS, CellKey, CellValues, Folded, added_up, fold_runs, values_alone
from .corrections import Correction, values_of
from .policy import DAY_US, MINUTE_US, QUARTER_US
from .pricing import Priced
from .room import check_room
from .sessions import Session
from .state import PartitionState

_I64 = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the counted runs of a batch amount to."""

    cells: CellValues
    late: CellValues
    """Of minutes that had closed, and what corrections add."""
    sections: dict[Section, bytes]
    rows: int
    unpriced: int = 0
    """Charges that no rate card priced."""


def encode_usage(
    state: PartitionState,
    offsets: _I64,
    clocks_us: _I64,
    runs: Priced,
    counted: _Mask,
    corrections: Sequence[Correction] = (),
) -> Usage:
    """Fold counted runs into cells and late rows, and write their charges.

    `offsets` and `clocks_us` are those of the runs' events; `counted` chooses among the runs.
    Corrections count as late rows, whenever their runs were. Raises CellFull if the runs do not fit
    into their cells.
    """
    if not counted.any() and not corrections:
        return Usage(NO_CELLS, NO_CELLS, {}, 0)
    late = counted & are_late(state, runs.times_us, clocks_us)
    on_time = counted & ~late
    measures = measures_of(runs)
    buckets = runs.columns.latency_bucket(), runs.columns.first_token_bucket()
    row = np.full(len(counted), -1, np.int64)
    sections: dict[Section, bytes] = {}
    cells = late_cells = NO_CELLS
    if on_time.any():
        folded, row[on_time] = _fold(runs, on_time, measures, buckets)
        cells = state.cells.merge(folded)
        check_room(cells)
        sections[Section.CELLS] = encode_cells(cells)
    rows = len(cells)
    if late.any() or corrections:
        for section, grain_us in _LATE:
            values = NO_CELLS
            if late.any():
                folded, late_row = _fold(runs, late, measures, buckets, grain_us // 1_000_000)
                values = values_alone(folded)
                if section is Section.LATE_MINUTES:
                    row[late] = late_row + len(cells)
            if corrections:
                values = added_up(values, values_of(corrections, grain_us // 1_000_000))
            if section is Section.LATE_MINUTES:
                late_cells = values
            rows += len(values)
            sections[section] = encode_cells(values)
    if counted.any():
        sections[Section.CHARGES] = _encode_charges(runs, counted, offsets, row)
    if corrections:
        row_of = {key: i for i, key in enumerate(late_cells.keys, len(cells))}
        sections[Section.CORRECTIONS] = _encode_corrections(corrections, row_of)
    unpriced = int(np.count_nonzero(runs.unpriced[counted]))
    return Usage(cells, late_cells, sections, rows, unpriced)


_LATE: Final = (
    (Section.LATE_MINUTES, MINUTE_US),
    (Section.LATE_QUARTERS, QUARTER_US),
    (Section.LATE_DAYS, DAY_US),
)


def are_late(state: PartitionState, times_us: _I64, clocks_us: _I64) -> _Mask:
    """Tell which event times' minutes were closed at the clocks of their events."""
    minute_end_us = (times_us // MINUTE_US + 1) * MINUTE_US
    late: _Mask = minute_end_us <= np.maximum(clocks_us - state.policy.grace_us, state.closed_us)
    return late


def measures_of(runs: Priced) -> _I64:
    """Return what is summed, shape (SUMS, runs), in the order of `rows.CELL_SUMS`."""
    columns = runs.columns
    return np.stack(
        (
            runs.runs,
            columns.failed,
            runs.unpriced,
            columns.input_tokens,
            columns.output_tokens,
            columns.cached_tokens,
            columns.reasoning_tokens,
            runs.total_micro,
            columns.duration_us,
            columns.request_bytes,
            columns.response_bytes,
            np.maximum(columns.latency_us, 0),
            np.maximum(columns.first_token_us, 0),
            runs.session_us,
            runs.amount_micro,
            runs.cost_micro,
        )
    )


def _fold(
    runs: Priced,
    chosen: _Mask,
    measures: _I64,
    buckets: tuple[_I64, _I64],
    grain_seconds: int = 60,
) -> tuple[Folded, _I64]:
    """Fold the chosen runs by cell, and say which row each of them went to."""
    used, cell = np.unique(runs.cell[chosen], return_inverse=True)
    keys: list[CellKey] = [runs.keys[i] for i in used.tolist()]
    if grain_seconds != 60:
        index: dict[CellKey, int] = {}
        coarse = [(key[0] // grain_seconds * grain_seconds, *key[1:]) for key in keys]
        of_cell = np.array([index.setdefault(key, len(index)) for key in coarse], np.int64)
        keys, cell = list(index), of_cell[cell]
    folded = fold_runs(keys, cell, measures[:, chosen], buckets[0][chosen], buckets[1][chosen])
    return folded, cell


def _encode_charges(runs: Priced, counted: _Mask, offsets: _I64, row: _I64) -> bytes:
    chosen: _Mask | slice = slice(None) if counted.all() else counted
    columns: dict[str, Any] = {
        "event_offset": offsets[chosen],
        "event_time": pa.array(runs.times_us[chosen]).cast(pa.timestamp("us", tz="UTC")),
        "cell": row[chosen].astype(np.int32),
        "card": pa.DictionaryArray.from_arrays(
            runs.label[chosen].astype(np.int32), pa.array(runs.labels)
        ),
        "credits_micro": runs.total_micro[chosen],
    }
    for i, component in enumerate(CHARGE_COMPONENTS):
        columns[component.name] = runs.components[i][chosen]
    columns["line"] = runs.line[chosen].astype(np.int32)
    for name in ("multiplier_ppm", "session_us", "amount_micro", "cost_micro"):
        columns[name] = getattr(runs, name)[chosen]
    columns["session_id"] = pa.DictionaryArray.from_arrays(
        runs.session[chosen].astype(np.int32), pa.array(runs.sessions, pa.string())
    )
    return encode_columns(columns, CHARGE_SCHEMA)


def _encode_corrections(corrections: Sequence[Correction], row_of: Mapping[CellKey, int]) -> bytes:
    datas = [one.event.data for one in corrections]
    sums = np.array([one.sums for one in corrections], np.int64)
    columns: dict[str, Any] = {
        "control_offset": np.array([one.offset for one in corrections], np.int64),
        "event_time": pa.array([one.time_us for one in corrections]).cast(
            pa.timestamp("us", tz="UTC")
        ),
        "cell": np.array([row_of[one.key] for one in corrections], np.int32),
        "number": np.array([one.number for one in corrections], np.int64),
    }
    for name in ("original_source", "original_id", "run_id", "session_id", "card", "reason"):
        columns[name] = pa.array([getattr(data, name) or "" for data in datas], pa.string())
    for i, column in enumerate(CELL_SUMS):
        columns[column.name] = sums[:, i].copy()
    return encode_columns(columns, CORRECTION_SCHEMA)


def encode_sessions(sessions: Sequence[Session]) -> bytes:
    """Return sessions as an Arrow stream with the SESSION columns."""
    rows = [session.to_row() for session in sessions]
    columns: dict[str, Any] = {
        column.name: pa.array([row[column.name] for row in rows], _plain(column.kind))
        for column in SESSION
    }
    return encode_columns(columns, SESSION_SCHEMA)


def _plain(kind: str) -> pa.DataType:
    return {"text": pa.string(), "int64": pa.int64(), "microseconds": pa.timestamp("us", tz="UTC")}[
        kind
    ]


def event_offsets(batch: EventBatch, positions: _I64) -> _I64:
    """Return the offsets of the records at `positions` of a batch."""
    return np.array(batch.offsets, np.int64)[positions]
