"""What the publisher's fast encoders share: columns of Arrow sections, times as text, JSON."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.times import format_rfc3339, from_us

encode: Final = msgspec.json.Encoder().encode

UNREADABLE: Final = (
    ValueError, TypeError, KeyError, OverflowError, OSError, pa.ArrowException,
)  # fmt: skip
"""What is raised where a section is not what it should be; msgspec's errors are ValueErrors."""


def columns_of(section: memoryview, schema: pa.Schema) -> list[Sequence[Any]]:
    """Return the columns of an Arrow section: texts, integers, timestamps in microseconds.

    Raises MalformedRecord if it has other columns than `schema`, and what is UNREADABLE.
    """
    table = pa.ipc.open_stream(pa.py_buffer(section)).read_all().combine_chunks()
    if not table.schema.equals(schema):
        raise MalformedRecord(f"columns {table.schema.names} are not {schema.names}")
    return [_values(column) for column in table.columns]


def _values(column: Any) -> Sequence[Any]:
    """Return a column's values, without an Arrow scalar for each of them on the way."""
    if not len(column):
        return ()
    (values,) = column.chunks
    if pa.types.is_dictionary(values.type):
        words = np.array(values.dictionary.to_pylist(), object)
        return list(words[values.indices.to_numpy()].tolist())
    if pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    return list(values.to_numpy().tolist())


@lru_cache(maxsize=1_000)
def time_text(time_us: int) -> str:
    """Return a time as RFC 3339 text."""
    return format_rfc3339(from_us(time_us))
