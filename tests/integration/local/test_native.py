"""Results in Native format for clients of newer protocol revisions (clickhouse-go, Grafana)."""

import http.client
from collections.abc import Iterator

import pytest

from meterstream.local.clickhouse import ClickHouseServer

_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_EXPRESSIONS = [
    "toUInt8(number)", "toInt16(number)", "toUInt256(number)", "toFloat64(number)",
    "toBFloat16(number)", "number > 1", "toString(number)", "repeat('x', 200)", "''",
    "toFixedString('abc', 5)", "toDate('2026-01-01')", "toDate32('1960-01-01')",
    "toDateTime('2026-01-01 00:00:00', 'UTC')", "toDateTime64('2026-01-01', 6, 'Europe/Rome')",
    "generateUUIDv4()", "toIPv4('127.0.0.1')", "toIPv6('::1')", "toDecimal32(1, 2)",
    "toDecimal64(1, 2)", "toDecimal128(1, 2)", "toDecimal256(1, 2)", "toIntervalDay(number)",
    "CAST('b)', 'Enum8(\\'a,\\' = 1, \\'b)\\' = 2)')", "CAST('b', 'Enum16(\\'b\\' = 300)')",
    "toNullable(number)", "if(number = 1, NULL, toString(number))", "NULL",
    "range(number)", "[[toString(number)], []]", "emptyArrayString()", "[toNullable(number)]",
    "map(number, toString(number))", "CAST(map(), 'Map(Int16, Int64)')",
    "map('k', [toLowCardinality('v')])", "(number, toString(number))", "((1, 'a'), [(2, 'b')])",
    "CAST((1, 'x'), 'Tuple(a Int8, `b c` Nullable(String))')",
    "toLowCardinality(toString(number))", "toLowCardinality(toNullable(toString(number)))",
    "[toLowCardinality(toString(number))]", "CAST([], 'Array(LowCardinality(String))')",
    "toLowCardinality(if(number = 1, NULL, 'x'))",
    "CAST(number, 'SimpleAggregateFunction(sum, UInt64)')",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """Return a server without a password."""
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse")) as started:
        yield started


def _ask(server: ClickHouseServer, sql: str, *, revision: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", f"/?default_format=Native&client_protocol_version={revision}", sql)
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("expression", _EXPRESSIONS)
def test_the_flag_stands_before_each_columns_data(
    server: ClickHouseServer, expression: str, rows: int
) -> None:
    """A column of any type is as long as the engine says when it writes it alone."""
    only = f"SELECT {expression} AS only FROM numbers({rows})"
    both = f"SELECT {expression} AS only, toUInt8(7) AS last FROM numbers({rows})"
    if "generateUUID" in expression:
        both = both.replace(expression, "toUUID('00000000-0000-0000-0000-000000000001')")
        only = only.replace(expression, "toUUID('00000000-0000-0000-0000-000000000001')")
    plain = _ask(server, only, revision=0)
    if not plain:
        assert _ask(server, both, revision=54460) == b""
        return
    # Two counts, the name with its length, the type with its length: then comes the data.
    type_length = plain[7]
    head, type_name, data = plain[2:7], plain[7 : 8 + type_length], plain[8 + type_length :]
    expected = _BLOCK_INFO + bytes([2, rows]) + head + type_name + b"\x00" + data
    expected += b"\x04last\x05UInt8\x00" + b"\x07" * rows
    assert _ask(server, both, revision=54460) == expected


def test_many_blocks_are_rewritten_each(server: ClickHouseServer) -> None:
    """A result of several blocks has block information before each of them."""
    sql = "SELECT toString(number) AS s FROM numbers(200000) SETTINGS max_block_size = 65536"
    plain, newer = (_ask(server, sql, revision=revision) for revision in (0, 54460))
    blocks = plain.count(b"\x01s\x06String")
    assert blocks > 1
    assert len(newer) == len(plain) + blocks * (len(_BLOCK_INFO) + 1)


@pytest.mark.parametrize("revision", [0, 54405])
def test_older_revisions_get_what_the_engine_writes(
    server: ClickHouseServer, revision: int
) -> None:
    """clickhouse-connect tries a revision and reads what it gets."""
    assert (
        _ask(server, "SELECT toUInt8(1) AS a", revision=revision) == b"\x01\x01\x01a\x05UInt8\x01"
    )
