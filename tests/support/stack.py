"""The broker and the ClickHouse server that tests run on.

The address comes from METERSTREAM_TEST_KAFKA (host:port) and
METERSTREAM_TEST_CLICKHOUSE (http://user:password@host:port); without it, from
Docker if an engine answers, else from the embedded stack. Where none of the
three is to be had the suite fails with what to install: it never skips.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from meterstream.local.clickhouse import ClickHouseServer, check_server
from meterstream.local.errors import LocalStackError
from meterstream.local.kafka import KafkaBroker, wait_for_broker

_GIVEN_TIMEOUT_S = 20.0


class OwnKafka(Protocol):
    """A broker that one test may stop, kill and start again; its address stays."""

    @property
    def bootstrap(self) -> str:
        """The address for clients."""

    def start(self) -> Self:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """Stop it in order."""

    def kill(self) -> None:
        """End it as a crash would."""


class OwnClickHouse(Protocol):
    """A ClickHouse server that one test may stop, kill and start again; its address stays."""

    user: str
    password: str

    @property
    def url(self) -> str:
        """The address for clients."""

    def start(self) -> Self:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """Stop it in order."""

    def kill(self) -> None:
        """End it as a crash would."""


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """Where a ClickHouse server is, and who may use it."""

    url: str
    user: str
    password: str

    def client(self, database: str = "default") -> Client:
        """Return a new clickhouse-connect client."""
        parts = urlsplit(self.url)
        return clickhouse_connect.get_client(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 8123,
            secure=parts.scheme == "https",
            username=self.user,
            password=self.password,
            database=database,
        )


def address_of(server: OwnClickHouse) -> ClickHouseAddress:
    """Return the address of a server that a test owns."""
    return ClickHouseAddress(server.url, server.user, server.password)


@contextlib.contextmanager
def shared_kafka() -> Iterator[str]:
    """Yield the address of the broker that all tests of a run share."""
    if given := os.environ.get("METERSTREAM_TEST_KAFKA"):
        wait_for_broker(given, timeout_s=_GIVEN_TIMEOUT_S)
        yield given
        return
    with own_kafka() as broker:
        yield broker.bootstrap


@contextlib.contextmanager
def shared_clickhouse() -> Iterator[ClickHouseAddress]:
    """Yield the address of the ClickHouse server that all tests of a run share."""
    if given := os.environ.get("METERSTREAM_TEST_CLICKHOUSE"):
        parts = urlsplit(given)
        address = ClickHouseAddress(
            f"{parts.scheme}://{parts.hostname}:{parts.port or 8123}",
            unquote(parts.username or "default"),
            unquote(parts.password or ""),
        )
        check_server(address.url, user=address.user, password=address.password)
        yield address
        return
    with own_clickhouse() as server:
        yield address_of(server)


@contextlib.contextmanager
def own_kafka() -> Iterator[OwnKafka]:
    """Yield a started broker that nobody else uses."""
    if docker_answers():
        from tests.support.containers import KafkaContainer

        container = KafkaContainer()
        try:
            yield container.start()
        finally:
            container.remove()
        return
    with _scratch("kafka") as directory, _or_fail("Kafka"):
        broker = KafkaBroker(directory)
        try:
            yield broker.start()
        finally:
            broker.kill()


@contextlib.contextmanager
def own_clickhouse() -> Iterator[OwnClickHouse]:
    """Yield a started ClickHouse server that nobody else uses."""
    if docker_answers():
        from tests.support.containers import ClickHouseContainer

        container = ClickHouseContainer()
        try:
            yield container.start()
        finally:
            container.remove()
        return
    with _scratch("clickhouse") as directory, _or_fail("ClickHouse"):
        server = ClickHouseServer(directory, password="test's password")
        try:
            yield server.start()
        finally:
            server.kill()


@functools.cache
def docker_answers() -> bool:
    """Tell whether a Docker engine can be used; asked once."""
    import docker  # type: ignore[import-untyped]
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        client = docker.from_env(timeout=3)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


@contextlib.contextmanager
def _or_fail(name: str) -> Iterator[None]:
    try:
        yield
    except LocalStackError as error:
        raise LocalStackError(
            f"the tests need {name}, no Docker engine answers, and the embedded one does not "
            f"start: {error}"
        ) from error


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[Path]:
    prefix = f"meterstream-test-{name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as directory:
        yield Path(directory)
