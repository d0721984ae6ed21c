"""Arrow sections of a journal record as tables with the declared columns and types."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.rows import Column, ColumnKind

ARROW_TYPES: Final[dict[ColumnKind, pa.DataType]] = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint8": pa.uint8(),
    "seconds": pa.timestamp("s", "UTC"),
    "microseconds": pa.timestamp("us", "UTC"),
    "sketch": pa.map_(pa.int16(), pa.int64()),
}


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema in which rows with `columns` are handled here."""
    return pa.schema([(column.name, ARROW_TYPES[column.kind]) for column in columns])


def read_table(section: memoryview, columns: Sequence[Column]) -> pa.Table:
    """Return the rows of an Arrow section; MalformedRecord if they are not of `columns`.

    Columns that this release does not know are left out.
    """
    try:
        with pa.ipc.open_stream(section) as stream:
            table = stream.read_all()
        table = table.select([column.name for column in columns])
        return table.cast(schema_of(columns))
    except (pa.ArrowException, KeyError) as error:
        raise MalformedRecord(f"an Arrow section cannot be read: {error}") from error
