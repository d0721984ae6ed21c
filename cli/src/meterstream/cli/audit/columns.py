"""Rows as polars frames: from the journal's Arrow sections and from ClickHouse, in one form.

Times are integers (seconds or microseconds since 1970), texts are strings, and a sketch is two
lists of equal length, `<name>_buckets` and `<name>_counts`.
"""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl
import pyarrow as pa

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.rows import CELL_KEY, CELL_SKETCHES, CELL_SUMS, Column

KEYS: Final = [column.name for column in CELL_KEY]
DIMENSIONS: Final = KEYS[1:]
SUMS: Final = [column.name for column in CELL_SUMS]
SKETCHES: Final = [
    f"{column.name}_{part}" for column in CELL_SKETCHES for part in ("buckets", "counts")
]
VALUES: Final = [*SUMS, *SKETCHES]


def read_section(data: memoryview, columns: tuple[Column, ...]) -> pa.Table:
    """Return the rows of an Arrow section; MalformedRecord if they are not of `columns`."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise MalformedRecord(f"an Arrow section cannot be read: {error}") from None
    wanted = arrow_schema(columns)
    if table.schema.names != wanted.names or table.schema.types != wanted.types:
        raise MalformedRecord(f"an Arrow section has other columns than {wanted.names}")
    return table


def to_frame(tables: Sequence[pa.Table], columns: tuple[Column, ...]) -> pl.DataFrame:
    """Return the rows of sections, one after the other."""
    table = pa.concat_tables(tables) if tables else arrow_schema(columns).empty_table()
    arrays: dict[str, Any] = {}
    for column in columns:
        values = table.column(column.name)
        if column.kind == "sketch":
            chunks = [_lists(chunk) for chunk in values.chunks]
            arrays[f"{column.name}_buckets"] = pa.chunked_array(
                [buckets for buckets, _ in chunks], pa.list_(pa.int16())
            )
            arrays[f"{column.name}_counts"] = pa.chunked_array(
                [counts for _, counts in chunks], pa.list_(pa.int64())
            )
        elif column.kind == "text":
            arrays[column.name] = values.cast(pa.string())
        elif column.kind in ("seconds", "microseconds"):
            arrays[column.name] = values.cast(pa.int64())
        else:
            arrays[column.name] = values
    return from_arrow(pa.table(arrays))


def from_arrow(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a frame in one piece."""
    frame = pl.from_arrow(table, rechunk=True)
    assert isinstance(frame, pl.DataFrame), "a table becomes a frame"
    return frame


def _lists(chunk: Any) -> tuple[pa.Array, pa.Array]:
    """Return a map array as two list arrays: keys and items."""
    offsets = chunk.offsets
    return (
        pa.ListArray.from_arrays(offsets, chunk.keys),
        pa.ListArray.from_arrays(offsets, chunk.items),
    )
