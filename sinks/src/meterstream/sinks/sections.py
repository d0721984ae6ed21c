"""Arrow sections of a journal record as tables with the declared columns and types."""

from collections.abc import Sequence

import pyarrow as pa

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.rows import Column


def read_table(section: memoryview, columns: Sequence[Column]) -> pa.Table:
    """Return the rows of an Arrow section; MalformedRecord if they are not of `columns`.

    Columns that this release does not know are left out.
    """
    try:
        with pa.ipc.open_stream(section) as stream:
            table = stream.read_all()
        table = table.select([column.name for column in columns])
        return table.cast(arrow_schema(columns))
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise MalformedRecord(f"an Arrow section cannot be read: {error}") from error
