"""Rows as Arrow: the schemas that `meterstream.schemas.rows` declares, to bytes and back."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.rows import CELL, CELL_KEY, CELL_SUMS, CHARGE, CORRECTION, SESSION

from .cells import SUMS, CellKey, CellValues, Sketch

CELL_SCHEMA: Final = arrow_schema(CELL)
CHARGE_SCHEMA: Final = arrow_schema(CHARGE)
CORRECTION_SCHEMA: Final = arrow_schema(CORRECTION)
SESSION_SCHEMA: Final = arrow_schema(SESSION)


def text_array(values: Sequence[str]) -> pa.Array:
    """Return texts as a dictionary-encoded array."""
    return pa.array(values, pa.string()).dictionary_encode()


def _sketch_array(sketches: Sequence[Sketch]) -> pa.Array:
    lengths = np.fromiter(map(len, sketches), np.int32, len(sketches))
    offsets = np.zeros(len(sketches) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    total = int(offsets[-1])
    buckets = np.fromiter(chain.from_iterable(sketches), np.int16, total)
    counts = np.fromiter(chain.from_iterable(map(dict.values, sketches)), np.int64, total)
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(buckets), pa.array(counts))


def _to_bytes(arrays: Sequence[Any], schema: pa.Schema) -> bytes:
    batch = pa.record_batch(
        [
            array if array.type == field.type else array.cast(field.type)
            for array, field in zip(arrays, schema, strict=True)
        ],
        schema=schema,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _table(data: bytes | memoryview, schema: pa.Schema) -> pa.Table:
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise MalformedRecord(f"not an Arrow stream: {error}") from None
    if not table.schema.equals(schema):
        raise MalformedRecord(f"columns {table.schema.names} are not {schema.names}")
    return table


def encode_cells(values: CellValues) -> bytes:
    """Return cells as an Arrow stream with the CELL columns."""
    columns = list(zip(*values.keys, strict=True)) or [()] * len(CELL_KEY)
    arrays: list[Any] = [pa.array(np.array(columns[0], np.int64)).cast(CELL_SCHEMA.field(0).type)]
    arrays += [text_array(column) for column in columns[1:]]
    by_measure = np.ascontiguousarray(values.sums.T)
    arrays += [pa.array(by_measure[i]) for i in range(SUMS)]
    arrays += [_sketch_array(values.latency), _sketch_array(values.first_token)]
    return _to_bytes(arrays, CELL_SCHEMA)


def decode_cells(data: bytes | memoryview) -> CellValues:
    """Return the cells that `encode_cells` wrote; MalformedRecord for anything else."""
    table = _table(data, CELL_SCHEMA)
    starts = table.column(0).cast(pa.int64()).to_pylist()
    texts = [table.column(i).to_pylist() for i in range(1, len(CELL_KEY))]
    keys: list[CellKey] = list(zip(starts, *texts, strict=True))
    sums = np.empty((len(keys), SUMS), np.int64)
    for i, column in enumerate(CELL_SUMS):
        sums[:, i] = table.column(column.name).to_numpy()
    return CellValues(
        keys, sums, _sketches(table, "latency_sketch"), _sketches(table, "first_token_sketch")
    )


def _sketches(table: pa.Table, name: str) -> list[Sketch]:
    found: list[Sketch] = []
    for chunk in table.column(name).chunks:
        buckets, counts = chunk.keys.to_pylist(), chunk.items.to_pylist()
        offsets = chunk.offsets.to_pylist()
        found.extend(
            dict(zip(buckets[a:b], counts[a:b], strict=True)) for a, b in pairwise(offsets)
        )
    return found


def encode_columns(columns: dict[str, Any], schema: pa.Schema) -> bytes:
    """Return named columns (numpy arrays or Arrow arrays) as an Arrow stream."""
    return _to_bytes(
        [
            columns[name] if isinstance(columns[name], pa.Array) else pa.array(columns[name])
            for name in schema.names
        ],
        schema,
    )


def decode_rows(data: bytes | memoryview, schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the rows of an Arrow stream as dictionaries; MalformedRecord if it is none."""
    rows: list[dict[str, Any]] = _table(data, schema).to_pylist()
    return rows
