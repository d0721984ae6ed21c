"""Runs statements on the ClickHouse engine in this process.

Every request gets a connection of its own: opening one costs a millisecond,
connections work in parallel on one data directory, and nothing that a request
sets (database, settings, read-only mode) can reach another request.
"""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chdb

from meterstream.local.clickhouse.errors import ErrorCode, ServerError
from meterstream.local.clickhouse.statement import Insert, Query, parse, split_settings, used_names

_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_FORMAT = re.compile(r"[A-Za-z0-9]+\Z", re.ASCII)
# Names by which chdb means Python objects; they are no ClickHouse formats.
_PYTHON_FORMATS = frozenset({"dataframe", "arrowtable", "datastore"})
# The table functions that stay within the database. Every other one of the engine reaches
# files, networks or programs, and the engine's read-only mode does not stop all of them.
_INNER_TABLE_FUNCTIONS = frozenset(
    {
        "dictionary", "format", "generate_series", "generaterandom", "generateseries", "input",
        "loop", "merge", "mergetreeindex", "null", "numbers", "numbers_mt", "primes", "values",
        "view", "viewexplain", "zeros", "zeros_mt",
    }
)  # fmt: skip
# Their values are SQL themselves, which nobody would look at.
_SETTINGS_WITH_SQL = "additional_"
_SMALL_INSERT_BYTES = 8 * 1024 * 1024
# One thread reads, sorts and writes a small insert in the time that it takes to wake others.
_SMALL_INSERT = {
    "max_threads": "1",
    "max_insert_threads": "1",
    "input_format_parallel_parsing": "0",
}
# A scalar function that returns a file's content; it may be named without a call (`APPLY file`).
_FILE_FUNCTION = "file"


@dataclass(frozen=True, slots=True)
class Request:
    """One statement with all that the HTTP request says about it."""

    sql: bytes
    database: str | None = None
    default_format: str = "TabSeparated"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The formatted result and the counts of the summary header."""

    data: bytes
    format: str
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_ns: int = 0


class Engine:
    """The engine on one data directory. Safe to use from many threads."""

    def __init__(self, data_dir: Path) -> None:
        self._path = str(data_dir)
        self._inserts = data_dir.parent / "inserts"
        self._inserts.mkdir(parents=True, exist_ok=True)
        for left_over in self._inserts.iterdir():
            left_over.unlink()
        # The engine lives as long as a connection is open.
        self._anchor = chdb.connect(self._path)
        self.version = self._ask("version()")
        self.timezone = self._ask("serverTimezone()")
        listed = self._ask(
            "arrayStringConcat(groupArray(lower(name)), ' ') FROM system.table_functions"
        )
        self._outward = frozenset(listed.split()) - _INNER_TABLE_FUNCTIONS

    def close(self) -> None:
        """Shut the engine down; open requests must have ended."""
        self._anchor.close()

    def run(self, request: Request) -> Result:
        """Run one statement to its end. Raises ServerError."""
        started_ns = time.perf_counter_ns()
        statement = parse(request.sql)
        is_small = isinstance(statement, Insert) and len(request.sql) <= _SMALL_INSERT_BYTES
        with self._connection(request, _SMALL_INSERT if is_small else {}) as connection:
            if request.read_only:
                self._check_reads_only(statement)
            if isinstance(statement, Insert):
                result = _insert(connection, statement, request.sql, self._inserts)
            else:
                result = _query(connection, statement, request.default_format)
        elapsed_ns = time.perf_counter_ns() - started_ns
        return Result(**{**_fields(result), "elapsed_ns": elapsed_ns})

    @contextlib.contextmanager
    def _connection(self, request: Request, defaults: Mapping[str, str]) -> Iterator[Any]:
        connection = chdb.connect(self._path)
        try:
            with _engine_errors():
                if request.database:
                    connection.query(f"USE {quote_name(request.database)}")
                values = {**defaults, **request.settings}
                values |= {f"param_{name}": value for name, value in request.parameters.items()}
                for name in values:
                    if request.read_only and name.startswith(_SETTINGS_WITH_SQL):
                        raise ServerError(
                            ErrorCode.READONLY, f"in read-only mode {name} cannot be set"
                        )
                if values:
                    # All at once: each statement waits for the engine's threads.
                    assigned = [f"{_checked_name(n)} = {quote_text(v)}" for n, v in values.items()]
                    connection.query(f"SET {', '.join(assigned)}")
                if request.read_only:
                    # Last, since nothing can be set after it, nor this be taken back.
                    connection.query("SET readonly = 1")
            yield connection
        finally:
            connection.close()

    def _check_reads_only(self, statement: Insert | Query) -> None:
        """Refuse what the engine's read-only mode lets through, such as KILL or INTO OUTFILE.

        The engine's own formatter writes the statement anew first: it and the
        parser agree on comments and quotes, so nothing can hide in them.
        """
        if isinstance(statement, Query):
            with _engine_errors():
                formatted = self._ask(f"formatQuerySingleLine({quote_text(statement.text)})")
            canonical = parse(formatted.encode())
            if isinstance(canonical, Query) and canonical.reads_only:
                self._check_stays_inside(formatted.encode())
                return
        raise ServerError(
            ErrorCode.READONLY,
            "in read-only mode only SELECT, WITH, SHOW, DESCRIBE, EXPLAIN and EXISTS are allowed",
        )

    def _check_stays_inside(self, sql: bytes) -> None:
        names, called = used_names(sql)
        outward = called & self._outward | names & {_FILE_FUNCTION}
        if outward:
            raise ServerError(
                ErrorCode.ACCESS_DENIED,
                f"in read-only mode {', '.join(sorted(outward))} cannot be used: it reaches "
                "outside of the database",
            )

    def _ask(self, expression: str) -> str:
        return (
            bytes(self._anchor.query(f"SELECT {expression}", "TSVRaw").bytes())
            .decode()
            .rstrip("\n")
        )


def quote_text(value: str) -> str:
    """Write a string as an SQL literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(value: str) -> str:
    """Write a name as an SQL identifier."""
    return "`" + value.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise ServerError(ErrorCode.BAD_ARGUMENTS, f"{name!r} is no name of a setting or parameter")
    return name


def _query(connection: Any, statement: Query, default_format: str) -> Result:
    name = statement.format or default_format
    if not _FORMAT.match(name) or name.lower() in _PYTHON_FORMATS:
        raise ServerError(ErrorCode.UNKNOWN_FORMAT, f"Unknown format {name}")
    with _engine_errors():
        answer = connection.query(statement.text, name)
    return Result(
        data=bytes(answer.bytes() or b""),
        format=name,
        read_rows=answer.storage_rows_read(),
        read_bytes=answer.storage_bytes_read(),
        written_rows=answer.rows_written(),
        written_bytes=answer.bytes_written(),
    )


def _insert(connection: Any, statement: Insert, sql: bytes, directory: Path) -> Result:
    """Insert from a file, since chdb's own `send_insert` reports success where writing failed.

    (chdb 4.4: a row that violates a constraint is counted as written and is nowhere.)
    """
    target, settings = split_settings(statement.header)
    with tempfile.NamedTemporaryFile(dir=directory, prefix="insert-") as file:
        file.write(memoryview(sql)[statement.data_start :])
        file.flush()
        with _engine_errors():
            done = connection.query(
                f"{target} FROM INFILE {quote_text(file.name)} COMPRESSION 'none'"
                f" {settings} FORMAT {statement.format}"
            )
    return Result(
        data=b"",
        format=statement.format,
        written_rows=done.rows_written(),
        written_bytes=done.bytes_written(),
    )


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.__slots__}


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except (chdb.ChdbError, RuntimeError) as error:
        raise ServerError.from_engine(str(error)) from error
