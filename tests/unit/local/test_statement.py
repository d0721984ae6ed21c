"""What the embedded ClickHouse server must know about a statement before the engine reads it."""

import pytest

from meterstream.local.clickhouse.errors import ErrorCode, ServerError
from meterstream.local.clickhouse.statement import Insert, Query, parse, used_names


@pytest.mark.parametrize(
    ("sql", "format_name"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"select 1 format JSONEachRow settings max_threads = 1;", "JSONEachRow"),
        (b"SELECT 'x FORMAT CSV'", None),
        (b"SELECT 1 -- FORMAT CSV\n", None),
        (b"SELECT 1 /* ; */ FORMAT TSV", "TSV"),
        (b"SELECT format('{}', 1) AS `FORMAT CSV`", None),
        (b"SELECT $tag$ it's; FORMAT CSV $tag$", None),
        (b"SELECT * FROM (SELECT 1 FORMAT CSV)", None),
    ],
)
def test_the_format_of_a_query_is_its_own_format_clause(
    sql: bytes, format_name: str | None
) -> None:
    """Strings, comments, names and subqueries do not count as the clause."""
    statement = parse(sql)
    assert isinstance(statement, Query)
    assert statement.format == format_name


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        (b"SELECT 1", True),
        (b"  -- note\n(select 1)", True),
        (b"WITH 1 AS x SELECT x", True),
        (b"show tables", True),
        (b"DESCRIBE TABLE t", True),
        (b"EXISTS TABLE t", True),
        (b"INSERT INTO t SELECT 1", False),
        (b"KILL QUERY WHERE 1", False),
        (b"SET readonly = 0", False),
        (b"DROP TABLE t", False),
        (b"", False),
    ],
)
def test_only_statements_that_read_count_as_such(sql: bytes, reads: bool) -> None:
    """The first keyword after comments and parentheses decides."""
    statement = parse(sql)
    assert isinstance(statement, Query)
    assert statement.reads_only is reads


@pytest.mark.parametrize(
    ("sql", "header", "format_name", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\xff", "INSERT INTO t ", "Native", b"\x00\xff"),
        (b"INSERT INTO t (a, b) FORMAT CSV 1,2", "INSERT INTO t (a, b) ", "CSV", b"1,2"),
        (b"insert into d.`t x` format TSV\r\n\n1\n", "insert into d.`t x` ", "TSV", b"\n1\n"),
        (b"INSERT INTO t VALUES (1), (2)", "INSERT INTO t ", "Values", b" (1), (2)"),
        (b"INSERT INTO TABLE t VALUES (';')", "INSERT INTO TABLE t ", "Values", b" (';')"),
        (b"INSERT INTO values FORMAT CSV 1", "INSERT INTO values ", "CSV", b"1"),
        (
            b"INSERT INTO t SETTINGS async_insert = 0 FORMAT JSONEachRow {}",
            "INSERT INTO t SETTINGS async_insert = 0 ",
            "JSONEachRow",
            b"{}",
        ),
        (
            b"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
            "INSERT INTO FUNCTION null('a Int8') ",
            "Values",
            b" (1)",
        ),
        (b"INSERT INTO t FORMAT Parquet", "INSERT INTO t ", "Parquet", b""),
    ],
)
def test_an_insert_is_split_from_its_data(
    sql: bytes, header: str, format_name: str, data: bytes
) -> None:
    """Data begins after the format's line, byte for byte, and may be anything."""
    statement = parse(sql)
    assert isinstance(statement, Insert)
    assert (statement.header, statement.format) == (header, format_name)
    assert sql[statement.data_start :] == data


@pytest.mark.parametrize(
    "sql", [b"SELECT 1; SELECT 2", b"SELECT 1; DROP TABLE t", b"DROP TABLE a;;DROP TABLE b"]
)
def test_a_second_statement_is_refused(sql: bytes) -> None:
    """One request is one statement."""
    with pytest.raises(ServerError, match="Multi-statements are not allowed") as caught:
        parse(sql)
    assert caught.value.code == ErrorCode.SYNTAX_ERROR


@pytest.mark.parametrize("sql", [b"SELECT 1;", b"SELECT 1 ; -- end\n", b"SELECT ';'"])
def test_a_semicolon_at_the_end_is_no_second_statement(sql: bytes) -> None:
    """Clients may end their statement, and strings may hold anything."""
    assert isinstance(parse(sql), Query)


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 1 INTO OUTFILE '/tmp/x'",
        b"SELECT 1 into /* */ outfile '/tmp/x'",
        b"INSERT INTO t FROM INFILE '/tmp/x' FORMAT CSV",
        b"SELECT * FROM Python(reader)",
    ],
)
def test_what_would_reach_into_the_servers_machine_is_refused(sql: bytes) -> None:
    """Neither files of the server nor its Python objects are part of the HTTP interface."""
    with pytest.raises(ServerError):
        parse(sql)


def test_names_are_found_whatever_their_quotes() -> None:
    """Quoted and plain names, and those that are called, come out in lower case."""
    names, called = used_names(b"SELECT `Sum` (a), \"b\", 'c(' FROM Numbers(1) -- d(\n")
    assert {"sum", "a", "b", "numbers"} <= names
    assert called == {"sum", "numbers"}


def test_text_that_is_not_utf8_is_refused() -> None:
    """The statement itself must be text."""
    with pytest.raises(ServerError, match="not UTF-8"):
        parse(b"SELECT '\xff'")
