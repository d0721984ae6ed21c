"""What a command needs and does not find is one line of advice and exit code 3."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.support.command import run_command

from meterstream.sinks.client import connect
from meterstream.sinks.errors import ClickHouseTooOld


class _OldServer(BaseHTTPRequestHandler):
    """Answers as ClickHouse 18.16 of Debian does to what a client asks first."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"18.16.1\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def old_clickhouse() -> Iterator[str]:
    """Return the address of a server that claims to be ClickHouse 18.16."""
    server = HTTPServer(("127.0.0.1", 0), _OldServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _one_line(stderr: str) -> str:
    assert "Traceback" not in stderr
    (line,) = (line for line in stderr.splitlines() if line.startswith("meterstream: "))
    return line


def test_no_clickhouse(tmp_path: Path) -> None:
    """Where nobody listens, the address, the cause and the way out are named."""
    env = {
        "METERSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "METERSTREAM_CLICKHOUSE_URL": "http://127.0.0.1:1",
    }
    ran = run_command("usage", env=env, cwd=tmp_path)
    assert ran.exit_code == 3
    line = _one_line(ran.stderr)
    assert "no ClickHouse server answers at http://127.0.0.1:1" in line
    assert "Connection refused" in line
    assert "METERSTREAM_CLICKHOUSE_URL" in line


def test_an_old_clickhouse(old_clickhouse: str, tmp_path: Path) -> None:
    """A server that is too old is told apart from one that is away, with what is needed."""
    env = {
        "METERSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "METERSTREAM_CLICKHOUSE_URL": old_clickhouse,
    }
    ran = run_command("migrate", env=env, cwd=tmp_path)
    assert ran.exit_code == 3
    line = _one_line(ran.stderr)
    assert "ClickHouse 18.16.1 is too old" in line
    assert "or newer" in line
    with pytest.raises(ClickHouseTooOld, match=r"ClickHouse 18\.16\.1 is too old"):
        connect(old_clickhouse)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A stack whose directory cannot be made names it, and the option that takes another."""
    (tmp_path / "file").touch()
    ran = run_command("stack", "--data", str(tmp_path / "file" / "data"), env={}, cwd=tmp_path)
    assert ran.exit_code == 3
    line = _one_line(ran.stderr)
    assert str(tmp_path / "file" / "data") in line
    assert "--data" in line


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port that somebody listens on is named with its option, before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--kafka-port", "--clickhouse-port"):
            ran = run_command("stack", "--data", "d", option, str(port), env={}, cwd=tmp_path)
            assert ran.exit_code == 3
            (line,) = ran.stderr.splitlines()
            assert f"port {port} on 127.0.0.1 is in use" in line
            assert f"leave {option} out" in line


def test_no_java(tmp_path: Path) -> None:
    """Without Java the stack says how to install it."""
    env = {"PATH": str(tmp_path), "JAVA_HOME": ""}
    ran = run_command("stack", "--data", "data", env=env, cwd=tmp_path)
    assert ran.exit_code == 3
    line = _one_line(ran.stderr)
    assert "Kafka needs Java 17" in line
    assert "openjdk-17-jre-headless" in line


def test_what_is_not_asked_well_is_usage(tmp_path: Path) -> None:
    """An option that cannot be used is exit code 2, and says what would do."""
    ran = run_command("usage", "--since", "2026-01-01", env={}, cwd=tmp_path)
    assert ran.exit_code == 2
    assert "such as 2026-01-31T12:00:00Z" in ran.stderr
