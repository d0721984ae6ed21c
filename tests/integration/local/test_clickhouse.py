"""The embedded ClickHouse server as its clients see it: clickhouse-connect, curl, Grafana."""

import datetime as dt
import gzip
import http.client
import json
import subprocess
import sys
import threading
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import clickhouse_connect
import psutil
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.support.waiting import eventually

from meterstream.local.clickhouse import ClickHouseServer, check_server, check_version
from meterstream.local.deadlines import Deadlines
from meterstream.local.errors import LocalStackError, StartError

_TABLE = """
CREATE TABLE kinds
(
    number UInt64, sketch Map(Int16, Int64), name LowCardinality(String),
    at DateTime64(6, 'UTC'), id UUID, hash FixedString(16), list Array(UInt32),
    maybe Nullable(Int64), flag Bool, day Date, small Int8
)
ENGINE = ReplacingMergeTree ORDER BY number
"""
_NAMES = ["number", "sketch", "name", "at", "id", "hash", "list", "maybe", "flag", "day", "small"]
_AT = dt.datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=dt.UTC)
_ID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
_ROWS = [
    [2**64 - 1, {-1: 5, 32767: -7}, "a'b\\\t\n", _AT, _ID, bytes(range(16)), [1, 2**32 - 1],
     None, True, dt.date(2026, 3, 29), -128],
    [0, {}, "", _AT.replace(year=1970), uuid.UUID(int=0), b"\xff" * 16, [],
     -(2**63), False, dt.date(1970, 1, 1), 127],
]  # fmt: skip
_PARENT = """
import signal, sys
from pathlib import Path
from meterstream.local.clickhouse import ClickHouseServer
server = ClickHouseServer(Path(sys.argv[1])).start()
print(server.pid, flush=True)
signal.alarm(600)
signal.pause()
"""


@dataclass(frozen=True)
class Answer:
    """A response of the HTTP interface."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """Return a server with a password and a read-only user."""
    with ClickHouseServer(
        tmp_path_factory.mktemp("clickhouse") / "a path é",
        password="it's a secret",
        reader="reader",
        reader_password="r",
    ) as started:
        yield started


@pytest.fixture
def client(server: ClickHouseServer) -> Iterator[Client]:
    """Return a client in a new database."""
    name = f"d{uuid.uuid4().hex[:8]}"
    server.client().command(f"CREATE DATABASE {name}")
    with server.client(database=name) as own:
        yield own
    server.client().command(f"DROP DATABASE {name}")


@pytest.fixture
def reader(server: ClickHouseServer) -> Iterator[Client]:
    """Return a client of the read-only user."""
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=server.port, username="reader", password="r"
    ) as own:
        yield own


def _ask(
    server: ClickHouseServer,
    path: str = "/",
    body: bytes | None = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Make one plain request, as curl would, with the owner's password unless headers are given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    credentials = b64encode(b"default:it's a secret").decode()
    used = {"Authorization": f"Basic {credentials}"} if headers is None else headers
    connection.request(method or ("GET" if body is None else "POST"), path, body, used)
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    answer = Answer(response.status, found, response.read())
    connection.close()
    return answer


def test_it_listens_on_loopback_only(server: ClickHouseServer) -> None:
    """There is one socket, and no other machine reaches it."""
    connections = psutil.Process(server.pid).net_connections("tcp")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


def test_it_says_its_version(server: ClickHouseServer) -> None:
    """`SELECT version()` is the engine's, and new enough for Meterstream."""
    version = check_server(server.url, user="default", password="it's a secret")
    assert check_version(version) >= (24, 8)
    assert server.client().server_version == version


def test_passwords_are_not_in_the_process_list(server: ClickHouseServer) -> None:
    """Other users of the machine see arguments, so no secret is one."""
    for process in (psutil.Process(server.pid), psutil.Process(server.pid).parent()):
        assert process is not None
        assert "secret" not in " ".join(process.cmdline())


def test_rows_come_back_as_they_were_inserted(client: Client) -> None:
    """Native inserts and queries keep every type to its bounds."""
    client.command(_TABLE)
    summary = client.insert("kinds", _ROWS, column_names=_NAMES)
    assert summary.written_rows == 2
    found = client.query("SELECT * FROM kinds ORDER BY number DESC").result_rows
    expected = [tuple(row) for row in _ROWS]
    assert [_with_utc(row) for row in found] == expected


def _with_utc(row: Sequence[object]) -> tuple[object, ...]:
    return tuple(
        value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) else value for value in row
    )


def test_arrow_goes_in_and_comes_out(client: Client) -> None:
    """Arrow inserts bring the same values as native ones, and query_arrow brings them back."""
    client.command(_TABLE)
    columns = dict(zip(_NAMES, zip(*_ROWS, strict=True), strict=True))
    table = pa.table(
        {
            "number": pa.array(columns["number"], pa.uint64()),
            "sketch": pa.array(
                [list(sketch.items()) for sketch in columns["sketch"]],
                pa.map_(pa.int16(), pa.int64()),
            ),
            "name": pa.array(columns["name"]).dictionary_encode(),
            "at": pa.array(columns["at"], pa.timestamp("us", "UTC")),
            "id": pa.array([value.bytes for value in columns["id"]], pa.binary(16)),
            "hash": pa.array(columns["hash"], pa.binary(16)),
            "list": pa.array(columns["list"], pa.list_(pa.uint32())),
            "maybe": pa.array(columns["maybe"], pa.int64()),
            "flag": pa.array(columns["flag"], pa.bool_()),
            "day": pa.array(columns["day"], pa.date32()),
            "small": pa.array(columns["small"], pa.int8()),
        }
    )
    assert client.insert_arrow("kinds", table).written_rows == 2
    found = client.query("SELECT * FROM kinds ORDER BY number DESC").result_rows
    assert [_with_utc(row) for row in found] == [tuple(row) for row in _ROWS]
    query = "SELECT number, sketch, at, list, maybe FROM kinds ORDER BY number DESC"
    arrow = client.query_arrow(query)
    assert arrow["number"].to_pylist() == list(columns["number"])
    assert [dict(sketch) for sketch in arrow["sketch"].to_pylist()] == list(columns["sketch"])
    assert arrow["at"].to_pylist() == list(columns["at"])
    assert arrow["maybe"].to_pylist() == list(columns["maybe"])


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_every_compression_of_the_client_works(
    server: ClickHouseServer, client: Client, compress: str | bool
) -> None:
    """Bodies are compressed both ways, and nothing is lost on the way."""
    client.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    with clickhouse_connect.get_client(
        host="127.0.0.1",
        port=server.port,
        password="it's a secret",
        database=client.database,
        compress=compress,
    ) as own:
        own.insert("t", [[n, "x" * 100] for n in range(5000)], column_names=["a", "b"])
        table = pa.table({"a": pa.array(range(5000, 9000), pa.uint64()), "b": ["y"] * 4000})
        own.insert_arrow("t", table)
        found = own.query("SELECT a, length(b) FROM t ORDER BY a").result_rows
    assert found == [(n, 100 if n < 5000 else 1) for n in range(9000)]


@pytest.mark.parametrize("format_name", ["CSVWithNames", "JSONEachRow", "Native", "Parquet", "TSV"])
def test_inserts_take_what_queries_give(
    server: ClickHouseServer, client: Client, format_name: str
) -> None:
    """Any format of a result can be inserted again."""
    client.command("CREATE TABLE t (a UInt64, b Map(String, Int8)) ENGINE = MergeTree ORDER BY a")
    query = f"SELECT number AS a, map('k', toInt8(1)) AS b FROM numbers(10) FORMAT {format_name}"
    data = _ask(server, "/", query.encode()).body
    target = quote(f"INSERT INTO {client.database}.t FORMAT {format_name}")
    assert _ask(server, f"/?query={target}", data).status == 200
    assert client.command("SELECT count(), sum(a), sum(b['k']) FROM t") == ["10", "45", "10"]


def test_parameters_are_bound_by_the_server(client: Client) -> None:
    """Values arrive as they are, whatever they hold."""
    values = {"text": "it's \\ {x:Int8} \t\n é", "number": 2**64 - 1, "list": [1, 2]}
    query = "SELECT {text:String}, {number:UInt64}, {list:Array(UInt8)}"
    assert client.query(query, parameters=values).first_row == tuple(values.values())


def test_settings_reach_the_query_and_no_other(client: Client) -> None:
    """A setting of one request is not there in the next."""
    query = "SELECT getSetting('max_threads')"
    assert client.query(query, settings={"max_threads": 3}).first_row == (3,)
    assert client.query(query).first_row != (3,)


def test_functions_and_parameterised_views_survive_a_restart(tmp_path: Path) -> None:
    """What analysts rely on is there after a kill, too."""
    with ClickHouseServer(tmp_path) as server:
        own = server.client()
        own.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        own.command("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
        own.command("CREATE FUNCTION plus_one AS (a) -> a + 1")
        own.command("CREATE VIEW v AS SELECT plus_one(a) AS c FROM t WHERE b = {p:String}")
        own.command("CREATE DATABASE other")
        server.kill()
        server.start()
        own = server.client()
        assert own.query("SELECT * FROM v(p = 'y')").result_rows == [(3,)]
        with pytest.raises(DatabaseError, match="FUNCTION_ALREADY_EXISTS"):
            own.command("CREATE FUNCTION plus_one AS (a) -> a + 1")
        assert own.command("EXISTS DATABASE other") == 1


def test_a_kill_during_inserts_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Each block whose insert returned is there after kill -9, whole and once."""
    with ClickHouseServer(tmp_path) as server:
        server.client().command(
            "CREATE TABLE t (writer UInt8, n UInt64) ENGINE = MergeTree ORDER BY (writer, n)"
        )
        acknowledged = dict.fromkeys(range(3), 0)

        def write(writer: int) -> None:
            own = server.client()
            while True:
                first = acknowledged[writer]
                rows = [[writer, n] for n in range(first, first + 500)]
                try:
                    own.insert("t", rows, column_names=["writer", "n"])
                except (clickhouse_connect.driver.exceptions.Error, OSError):
                    return  # the server was killed
                acknowledged[writer] = first + 500

        for kill in range(1, 4):
            threads = [threading.Thread(target=write, args=(writer,)) for writer in acknowledged]
            wanted = kill * 3000
            for thread in threads:
                thread.start()
            eventually(lambda: min(acknowledged.values()) >= wanted, 60, "inserts land")  # noqa: B023
            server.kill()
            for thread in threads:
                thread.join(60)
            server.start()
            own = server.client()
            for writer, count in acknowledged.items():
                where = f"FROM t WHERE writer = {writer}"
                stored, last = own.query(f"SELECT uniqExact(n), max(n) {where}").result_rows[0]
                assert stored >= count
                assert stored == last + 1
                acknowledged[writer] = stored


def test_a_read_does_not_wait_for_a_slow_one(server: ClickHouseServer, client: Client) -> None:
    """Requests work in parallel: a short query ends while a long one runs."""
    slow = server.client()
    thread = threading.Thread(target=slow.command, args=("SELECT sleepEachRow(1) FROM numbers(3)",))
    thread.start()
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(1)%'"
    eventually(lambda: int(str(client.command(running))) > 1, 30, "the slow query runs")
    assert thread.is_alive()
    thread.join(60)


@pytest.mark.parametrize(
    ("sql", "code", "status", "name"),
    [
        ("SELECT * FROM nowhere", 60, 404, "UNKNOWN_TABLE"),
        ("SELECT no_such_function()", 46, 404, "UNKNOWN_FUNCTION"),
        ("SELECT 1 +", 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1 FORMAT Nothing", 73, 404, "UNKNOWN_FORMAT"),
        ("SELECT throwIf(1)", 395, 500, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("INSERT INTO nowhere VALUES (1)", 60, 404, "UNKNOWN_TABLE"),
        ("SELECT toUInt8('x')", 6, 400, "CANNOT_PARSE_TEXT"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 48, 501, "NOT_IMPLEMENTED"),
    ],
)
def test_errors_are_those_of_clickhouse(
    server: ClickHouseServer, sql: str, code: int, status: int, name: str
) -> None:
    """Text, code header and status are what clients of ClickHouse expect."""
    answer = _ask(server, "/", sql.encode())
    assert answer.status == status
    assert answer.headers["x-clickhouse-exception-code"] == str(code)
    text = answer.body.decode()
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert f"({name})" in text
    assert text.count("(version ") == 1


def test_a_bad_row_is_refused_and_the_server_goes_on(
    server: ClickHouseServer, client: Client
) -> None:
    """The error names the row, and the next insert works."""
    client.command("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    target = quote(f"INSERT INTO {client.database}.t FORMAT JSONEachRow")
    refused = _ask(server, f"/?query={target}", b'{"a": 1}\n{"a": "x"}')
    assert refused.status == 400
    assert b"row 2" in refused.body
    assert _ask(server, f"/?query={target}", b'{"a": 1}').status == 200
    assert client.command("SELECT count() FROM t") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "wrong"},
        {"Authorization": "Basic " + b64encode(b"reader:").decode()},
    ],
)
def test_a_wrong_password_is_refused(server: ClickHouseServer, headers: dict[str, str]) -> None:
    """Without the password nothing runs, and the answer says why."""
    answer = _ask(server, "/", b"SELECT 1", headers=headers)
    assert (answer.status, answer.headers["x-clickhouse-exception-code"]) == (401, "516")
    assert b"SELECT" not in answer.body


def test_pings_need_no_password(server: ClickHouseServer) -> None:
    """Health checks and load balancers get their answer."""
    for path in ("/ping", "/replicas_status", "/"):
        answer = _ask(server, path, headers={})
        assert (answer.status, answer.body) == (200, b"Ok.\n")
    assert _ask(server, "/nowhere", headers={}).status == 404


def test_the_format_can_be_chosen_outside_of_the_query(server: ClickHouseServer) -> None:
    """The FORMAT clause goes before the parameter, and that before the default."""
    credentials = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "it's a secret"}
    assert _ask(server, "/", b"SELECT 1 AS a, 'x' AS b").body == b"1\tx\n"
    asked = _ask(server, "/?default_format=JSONEachRow", b"SELECT 1 AS a")
    assert json.loads(asked.body) == {"a": 1}
    asked = _ask(server, "/?default_format=JSONEachRow", b"SELECT 1 AS a FORMAT CSV")
    assert asked.body == b"1\n"
    asked = _ask(server, "/", b"SELECT 1", headers=credentials | {"X-ClickHouse-Format": "JSON"})
    assert asked.headers["content-type"].startswith("application/json")
    assert asked.headers["x-clickhouse-format"] == "JSON"
    assert json.loads(asked.body)["data"] == [{"1": 1}]


def test_queries_in_the_url_work_as_grafana_sends_them(server: ClickHouseServer) -> None:
    """Query, database, settings and parameters may stand in the URL, the password too."""
    query = quote("SELECT {x:UInt8} AS x, currentDatabase() AS d, getSetting('max_threads') AS t")
    url = f"/?query={query}&param_x=7&database=system&max_threads=1&session_id=1&query_id=abc"
    secret = quote("it's a secret")
    answer = _ask(server, f"{url}&user=default&password={secret}&wait_end_of_query=1", headers={})
    assert answer.body == b"7\tsystem\t1\n"
    assert answer.headers["x-clickhouse-query-id"] == "abc"
    assert json.loads(answer.headers["x-clickhouse-summary"]).keys() >= {"read_rows", "elapsed_ns"}


def test_results_are_compressed_when_the_client_asks(server: ClickHouseServer) -> None:
    """Only with the setting and the header, as ClickHouse does it."""
    credentials = {
        "X-ClickHouse-User": "default",
        "X-ClickHouse-Key": "it's a secret",
        "Accept-Encoding": "gzip",
    }
    plain = _ask(server, "/", b"SELECT 1", headers=credentials)
    assert "content-encoding" not in plain.headers
    packed = _ask(server, "/?enable_http_compression=1", b"SELECT 1", headers=credentials)
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"1\n"


def test_a_get_request_changes_nothing(server: ClickHouseServer, client: Client) -> None:
    """Links and images cannot write, whoever follows them."""
    sql = quote(f"CREATE TABLE {client.database}.t (a UInt8) ENGINE = Memory")
    answer = _ask(server, f"/?query={sql}")
    assert answer.headers["x-clickhouse-exception-code"] == "164"


@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_web_pages_of_others_are_refused(server: ClickHouseServer, header: dict[str, str]) -> None:
    """A page in the user's browser reaches loopback, so its origin is looked at."""
    credentials = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "it's a secret"}
    assert _ask(server, "/", b"SELECT 1", headers=credentials | header).status == 403


def test_the_reader_reads(reader: Client, client: Client) -> None:
    """Queries, parameters, Arrow and questions about tables work read-only."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    client.command("CREATE VIEW v AS SELECT a FROM t WHERE a > {least:UInt64} SETTINGS final = 1")
    client.command("INSERT INTO t VALUES (1), (2)")
    name = client.database
    view = f"SELECT a FROM {name}.v(least = 1)"
    assert reader.query(view, parameters={"x": 1}).result_rows == [(2,)]
    assert reader.query_arrow(f"SELECT a FROM {name}.t ORDER BY a")["a"].to_pylist() == [1, 2]
    assert "t" in str(reader.command(f"SHOW TABLES FROM {name}"))
    assert reader.command(f"EXISTS TABLE {name}.t") == 1
    assert reader.query(f"DESCRIBE TABLE {name}.t").result_rows[0][0] == "a"
    assert reader.query(f"EXPLAIN SELECT a FROM {name}.t").row_count > 0
    assert reader.command("WITH 1 AS x SELECT x; -- done") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t SELECT 1",
        "CREATE TABLE x (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE x (a UInt8)",
        "CREATE FUNCTION f AS (a) -> a",
        "DROP TABLE t",
        "ALTER TABLE t DELETE WHERE 1",
        "OPTIMIZE TABLE t FINAL",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE 1",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "/* SELECT */ DROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 INTO OUTFILE '/tmp/meterstream-reader'",
        "SELECT 1 // \n INTO /* */ OUTFILE '/tmp/meterstream-reader'",
        "INSERT INTO FUNCTION file('/tmp/meterstream-reader', 'CSV') SELECT 1",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM `/etc/hostname`",
        "SELECT file('/etc/hostname')",
        "SELECT \"file\"('/etc/hostname')",
        "SELECT * APPLY file FROM (SELECT '/etc/hostname')",
        "DESCRIBE file('/etc/hostname')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "SELECT * FROM sqlite('/tmp/x', 't')",
        "SELECT * FROM Python(reader)",
    ],
)
def test_the_reader_can_do_nothing_else(reader: Client, sql: str) -> None:
    """Neither tables nor files, programs or other servers are within its reach."""
    with pytest.raises(DatabaseError, match=r"Code: (164|497|62|48)\."):
        reader.command(sql)
    assert not Path("/tmp/meterstream-reader").exists()


def test_a_reader_cannot_smuggle_sql_in_settings(server: ClickHouseServer) -> None:
    """Settings whose values are SQL are refused; others may be set."""
    sql = quote("file('/etc/hostname') != ''")
    denied = _ask(server, f"/?user=reader&password=r&additional_result_filter={sql}", b"SELECT 1",
                  headers={})  # fmt: skip
    assert denied.headers["x-clickhouse-exception-code"] == "164"
    allowed = _ask(server, "/?user=reader&password=r&max_threads=1", b"SELECT 1", headers={})
    assert allowed.body == b"1\n"


def test_a_second_server_on_the_same_data_is_refused(server: ClickHouseServer) -> None:
    """Two engines on one directory would destroy it."""
    second = ClickHouseServer(server.data_dir, deadlines=Deadlines(lock_s=0.1))
    with pytest.raises(StartError, match="another process works on"):
        second.start()


def test_a_busy_port_is_told_in_one_line(server: ClickHouseServer, tmp_path: Path) -> None:
    """The line names the port and what to do."""
    with pytest.raises(StartError, match=f"port {server.port} .* is in use") as caught:
        ClickHouseServer(tmp_path, server.port).start()
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """The line names the directory."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalStackError, match="cannot write") as caught:
        ClickHouseServer(tmp_path / "file" / "data").start()
    assert "\n" not in str(caught.value)


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """After kill -9 of the parent no engine is left on the data."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait(30)
    eventually(lambda: not psutil.pid_exists(pid), 60, "the server is gone")
    parent.stdout.close()
    with ClickHouseServer(tmp_path) as again:
        assert again.client().command("SELECT 1") == 1


def test_an_insert_that_fails_while_it_is_written_is_an_error(ch_client: Client) -> None:
    """A row that violates a constraint fails the insert, whatever format it comes in."""
    ch_client.command("CREATE TABLE guarded (a Int64, CONSTRAINT k CHECK a < 5) ENGINE = Memory")
    with pytest.raises(DatabaseError, match="469"):
        ch_client.insert("guarded", [[9]], column_names=["a"])
    with pytest.raises(DatabaseError, match="469"):
        ch_client.insert_arrow("guarded", pa.table({"a": [9]}))
    with pytest.raises(DatabaseError, match="469"):
        ch_client.command("INSERT INTO guarded SETTINGS async_insert = 0 VALUES (9)")
    ch_client.command("INSERT INTO guarded SETTINGS async_insert = 0 VALUES (4)")
    assert ch_client.command("SELECT count() FROM guarded") == 1
