"""Rows as Arrow streams: what is written is read back, and nothing else is taken for it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.craft import NOW

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.rows import CELL, CHARGE, SESSION
from meterstream.streams.core.arrow import (
    CELL_SCHEMA,
    CHARGE_SCHEMA,
    SESSION_SCHEMA,
    decode_cells,
    decode_rows,
    encode_cells,
    encode_columns,
    text_array,
)
from meterstream.streams.core.cells import NO_CELLS, SUMS, CellKey, CellValues

KEYS: list[CellKey] = [
    (NOW // 10**6, "t", "büro", "", "a", "m", "", "", "x", "feature"),
    (-60, "t", "", "", "", "", "", "", "", "agent_run"),
]
VALUES = CellValues(
    KEYS,
    np.array([range(SUMS), [2**63 - 1, *range(1, SUMS - 1), -(2**63)]], np.int64),
    [{}, {0: 1, 1239: 2**40}],
    [{5: 6}, {}],
)


def same(found: CellValues, expected: CellValues) -> None:
    """Compare cell values."""
    assert list(found.keys) == list(expected.keys)
    assert found.sums.tolist() == expected.sums.tolist()
    assert found.sums.dtype == np.int64
    assert list(found.latency) == list(expected.latency)
    assert list(found.first_token) == list(expected.first_token)


def test_cells_come_back_as_they_were() -> None:
    """Keys, sums at the ends of 64 bits and sketches survive."""
    same(decode_cells(memoryview(encode_cells(VALUES))), VALUES)
    same(decode_cells(encode_cells(NO_CELLS)), CellValues([], NO_CELLS.sums, [], []))


def test_cells_are_readable_without_this_code() -> None:
    """A plain Arrow reader finds the declared columns, ready to insert."""
    table = pa.ipc.open_stream(encode_cells(VALUES)).read_all()
    assert table.schema.names == [column.name for column in CELL]
    row: dict[str, Any] = table.to_pylist()[0]
    assert row["window_start"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert (row["user_id"], row["operation"], row["runs"]) == ("büro", "feature", 0)
    assert row["first_token_sketch"] == [(5, 6)]
    assert not any(field.nullable for field in table.schema)


@pytest.mark.parametrize("data", [b"", b"x", encode_cells(VALUES)[:-9], encode_cells(VALUES)[:100]])
def test_other_bytes_are_malformed(data: bytes) -> None:
    """A stream that is cut or none stops the reader."""
    if len(data) > 1_000:
        with pytest.raises(MalformedRecord):
            decode_cells(data[: len(data) // 2])
        return
    with pytest.raises(MalformedRecord, match="not an Arrow stream"):
        decode_cells(data)


def test_other_columns_are_malformed() -> None:
    """A stream of other rows is not read as these, and the error names both."""
    other = encode_columns({"a": np.array([1])}, pa.schema([pa.field("a", pa.int64())]))
    with pytest.raises(MalformedRecord, match=r"columns \['a'\] are not \['window_start'"):
        decode_cells(other)
    with pytest.raises(MalformedRecord, match=r"columns \['a'\] are not \['team_id'"):
        decode_rows(other, SESSION_SCHEMA)


def test_several_batches_are_one_table() -> None:
    """A stream may hold its rows in any number of batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, CELL_SCHEMA) as writer:
        for _ in range(2):
            writer.write_table(pa.ipc.open_stream(encode_cells(VALUES)).read_all())
    found = decode_cells(sink.getvalue().to_pybytes())
    assert list(found.keys) == KEYS * 2
    assert list(found.latency) == list(VALUES.latency) * 2


def test_a_slice_of_a_table_is_read_as_a_slice() -> None:
    """Rows in the middle of a larger table keep their own sketches."""
    table = pa.ipc.open_stream(encode_cells(VALUES)).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, CELL_SCHEMA) as writer:
        writer.write_table(table.slice(1))
    found = decode_cells(sink.getvalue().to_pybytes())
    assert (list(found.keys), list(found.latency)) == (KEYS[1:], [{0: 1, 1239: 2**40}])


def test_columns_come_from_numpy_or_arrow() -> None:
    """Named columns stand in the order of the schema and are cast to its types."""
    schema = pa.schema(
        [pa.field("n", pa.int32()), pa.field("t", pa.dictionary(pa.int32(), pa.string()))]
    )
    data = encode_columns({"t": text_array(["a", "b", "a"]), "n": np.array([1, 2, 3])}, schema)
    assert decode_rows(data, schema) == [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3, "t": "a"}]


def test_the_schemas_are_those_of_the_contract() -> None:
    """Each kind of column has one Arrow type, and none is nullable."""
    for columns, schema in (
        (CELL, CELL_SCHEMA),
        (CHARGE, CHARGE_SCHEMA),
        (SESSION, SESSION_SCHEMA),
    ):
        assert schema.names == [column.name for column in columns]
        assert arrow_schema(columns).equals(schema)
        assert not any(field.nullable for field in schema)
    assert CHARGE_SCHEMA.field("cell").type == pa.int32()
    assert CHARGE_SCHEMA.field("event_time").type == pa.timestamp("us", tz="UTC")
    assert CELL_SCHEMA.field("window_start").type == pa.timestamp("s", tz="UTC")
    assert CELL_SCHEMA.field("latency_sketch").type == pa.map_(pa.int16(), pa.int64())
    assert SESSION_SCHEMA.field("status").type == pa.dictionary(pa.int32(), pa.string())
