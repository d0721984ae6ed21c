"""Commands find the stack by its file or the environment, and say what is missing."""

import json
import os
import stat
from pathlib import Path

import pytest

from meterstream.cli.connection import FILE_NAME, connect
from meterstream.cli.errors import Unreachable
from meterstream.cli.stack.file import choose_addresses, mark_ended, write_file


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("METERSTREAM_"):
            monkeypatch.delenv(name)


def _write_stack(data: Path) -> None:
    data.mkdir(exist_ok=True)
    write_file(data, choose_addresses(data), "meterstream.", {"meter": "http://127.0.0.1:9"})


def test_the_file_of_a_stack_is_found(tmp_path: Path) -> None:
    """The default directory's file gives the broker, both ClickHouse users and the prefix."""
    _write_stack(tmp_path / ".meterstream")
    connection = connect(None)
    assert connection.bootstrap.startswith("127.0.0.1:")
    assert connection.topic("events") == "meterstream.events"
    assert connection.reader is not None
    assert connection.reader.user != connection.clickhouse.user


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds passwords, so nobody else may read it, also after the stack has ended."""
    _write_stack(tmp_path)
    mark_ended(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    """No password stands in what Python prints of a connection."""
    _write_stack(tmp_path)
    connection = connect(tmp_path)
    assert connection.clickhouse.password not in repr(connection)


def test_an_ended_stack_is_told(tmp_path: Path) -> None:
    """A file of a stack that has ended says so, and how to start it again."""
    _write_stack(tmp_path)
    mark_ended(tmp_path)
    with pytest.raises(Unreachable, match=r"has ended: start it again with `meterstream stack"):
        connect(tmp_path)


def test_no_stack_is_told(tmp_path: Path) -> None:
    """Where nothing is to be found all three ways to have something are named."""
    with pytest.raises(
        Unreachable, match=r"meterstream stack.*--data.*METERSTREAM_KAFKA_BOOTSTRAP"
    ):
        connect(None)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """A file that is no connection file is named, not guessed at."""
    (tmp_path / FILE_NAME).write_text('{"pid": 1}')
    with pytest.raises(Unreachable, match="is no connection file"):
        connect(tmp_path)


def test_the_environment_goes_before_the_default_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address in the environment wins over ./.meterstream, and a named directory over both."""
    _write_stack(tmp_path / ".meterstream")
    _write_stack(tmp_path / "named")
    monkeypatch.setenv("METERSTREAM_KAFKA_BOOTSTRAP", "kafka.example:9092")
    monkeypatch.setenv("METERSTREAM_CLICKHOUSE_URL", "https://ch.example")
    connection = connect(None)
    assert connection.bootstrap == "kafka.example:9092"
    assert connection.clickhouse.url == "https://ch.example:8443"
    assert connect(tmp_path / "named").bootstrap.startswith("127.0.0.1:")


def test_what_commands_find_services_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that a service is given leads a command to the same place."""
    _write_stack(tmp_path)
    there = connect(tmp_path)
    for name, value in there.environment().items():
        monkeypatch.setenv(name, value)
    again = connect(None)
    assert (again.bootstrap, again.clickhouse) == (there.bootstrap, there.clickhouse)


@pytest.mark.parametrize("free", [True, False])
def test_addresses_stay_over_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool
) -> None:
    """The next start takes the same passwords, and the same ports unless somebody took them."""
    _write_stack(tmp_path)
    mark_ended(tmp_path)
    before = json.loads((tmp_path / FILE_NAME).read_text())
    # Whether others on this machine take a port meanwhile is not for this test to tell.
    reason = None if free else "is in use: stop what listens there"
    monkeypatch.setattr("meterstream.cli.stack.file.why_closed", lambda _: reason)
    monkeypatch.setattr("meterstream.cli.stack.file.free_ports", lambda _: (1, 2))
    again = choose_addresses(tmp_path)
    assert again.clickhouse_port == (before["clickhouse"]["port"] if free else 2)
    assert again.password == before["clickhouse"]["password"]
    assert again.reader_password == before["reader"]["password"]
    if free:
        assert choose_addresses(tmp_path, kafka_port=3).kafka_port == 3
    else:
        with pytest.raises(Unreachable, match=r"port 3 .* leave --kafka-port out"):
            choose_addresses(tmp_path, kafka_port=3)
