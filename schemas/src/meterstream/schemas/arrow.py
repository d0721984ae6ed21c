"""The declared columns as Arrow, and Arrow without pandas.

It needs pyarrow, which schemas does not ask for: who imports this module depends on it.
"""

import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from typing import Final

import pyarrow as pa

from .rows import Column, ColumnKind

_TYPES: Final[dict[ColumnKind, pa.DataType]] = {
    "text": pa.dictionary(pa.int32(), pa.string()),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint8": pa.uint8(),
    "seconds": pa.timestamp("s", tz="UTC"),
    "microseconds": pa.timestamp("us", tz="UTC"),
    "sketch": pa.map_(pa.int16(), pa.int64()),
}


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of rows with these columns; none of them holds nulls."""
    return pa.schema([pa.field(c.name, _TYPES[c.kind], nullable=False) for c in columns])


def leave_pandas_out() -> None:
    """Let pyarrow go without pandas in this process. Call it before the first array is made.

    pyarrow looks for pandas once, at its first conversion of Python or numpy values. Where pandas
    happens to be installed, that takes seconds in the middle of work and 65 MB of memory, for
    conversions that nothing here makes. `to_pandas` imports it all the same, if somebody asks.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NO_PANDAS)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NO_PANDAS)


class _NoPandas(MetaPathFinder):
    """Finds that there is no pandas."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == "pandas":
            raise ImportError("pandas is left out")


_NO_PANDAS: Final = _NoPandas()
