"""Where Kafka and ClickHouse are: the connection file of a stack, else the environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import psutil

from meterstream.cli.errors import Unreachable
from meterstream.local.clickhouse.version import check_server
from meterstream.local.errors import LocalStackError
from meterstream.schemas.topics import DEFAULT_PREFIX

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

FILE_NAME: Final = "stack.json"
DEFAULT_DATA: Final = ".meterstream"


@dataclass(frozen=True, slots=True)
class ClickHouseAddress:
    """One user's way into ClickHouse, over HTTP."""

    host: str = "127.0.0.1"
    port: int = 8123
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "meterstream"
    secure: bool = False

    @property
    def url(self) -> str:
        """The address for clients, without user and password."""
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"

    def client(self, *, database: str | None = "") -> "Client":
        """Return a clickhouse-connect client; in the server's own default database for None.

        Raises Unreachable where no ClickHouse answers, or one that is too old.
        """
        from clickhouse_connect.driver.exceptions import ClickHouseError

        from meterstream.sinks.client import connect as connect_clickhouse
        from meterstream.sinks.errors import ClickHouseTooOld

        try:
            return connect_clickhouse(
                self.url,
                user=self.user,
                password=self.password,
                database=self.database if database == "" else database,
            )
        except ClickHouseTooOld as error:
            raise Unreachable(str(error)) from error
        except ClickHouseError as error:
            raise Unreachable(
                f"{self._why_not(str(error))}. `meterstream stack` starts one; another is named by "
                "METERSTREAM_CLICKHOUSE_URL, _USER and _PASSWORD"
            ) from error

    def _why_not(self, said: str) -> str:
        """Ask once more in the plainest way: a server may be too old even to say so otherwise."""
        try:
            check_server(self.url, user=self.user, password=self.password)
        except LocalStackError as error:
            return str(error)
        said = said.partition("server response: ")[2] or said
        return f"ClickHouse at {self.url} does not answer as it should: {' '.join(said.split())}"


@dataclass(frozen=True, slots=True)
class Connection:
    """All that a command needs to know of where it works.

    `data` is the directory that commands keep their own small files in.
    """

    data: Path
    bootstrap: str
    prefix: str = DEFAULT_PREFIX
    clickhouse: ClickHouseAddress = field(default_factory=ClickHouseAddress)
    reader: ClickHouseAddress | None = None
    security: Mapping[str, str] = field(default_factory=dict, repr=False)

    def kafka(self) -> dict[str, str]:
        """Return the Kafka client's settings for this broker."""
        return {**self.security, "bootstrap.servers": self.bootstrap}

    def environment(self) -> dict[str, str]:
        """Return what a service reads to work in the same place."""
        return {
            "METERSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "METERSTREAM_TOPIC_PREFIX": self.prefix,
            "METERSTREAM_CLICKHOUSE_URL": self.clickhouse.url,
            "METERSTREAM_CLICKHOUSE_USER": self.clickhouse.user,
            "METERSTREAM_CLICKHOUSE_PASSWORD": self.clickhouse.password,
            "METERSTREAM_CLICKHOUSE_DATABASE": self.clickhouse.database,
        }

    def topic(self, name: str) -> str:
        """Return the full name of one of our topics."""
        return f"{self.prefix}{name}"


def data_directory(given: Path | None) -> Path:
    """Return --data, else METERSTREAM_DATA, else ./.meterstream."""
    return Path(given or os.environ.get("METERSTREAM_DATA") or DEFAULT_DATA)


def connect(given: Path | None) -> Connection:
    """Find out where to work. A directory that was named goes before the environment.

    Raises Unreachable where there is neither a running stack nor an address.
    """
    data = data_directory(given)
    file = data / FILE_NAME
    if given is None and os.environ.get("METERSTREAM_KAFKA_BOOTSTRAP"):
        return _from_environment(data)
    if file.exists():
        return _from_file(data, file)
    raise Unreachable(
        f"no stack runs in {data}: start one with `meterstream stack --data {data}`, name another "
        "directory with --data, or set METERSTREAM_KAFKA_BOOTSTRAP"
    )


def _from_environment(data: Path) -> Connection:
    from meterstream.streams.settings import KafkaSettings, SettingsInvalid, load

    try:
        kafka = load(KafkaSettings)
    except SettingsInvalid as error:
        raise Unreachable(str(error)) from error
    return Connection(
        data=data,
        bootstrap=kafka.kafka_bootstrap,
        prefix=kafka.topic_prefix,
        security={name: str(value) for name, value in kafka.client().items()},
        clickhouse=address_from_environment(),
    )


def address_from_environment() -> ClickHouseAddress:
    """Return what METERSTREAM_CLICKHOUSE_* say of ClickHouse. Raises Unreachable for a bad URL."""
    get = os.environ.get
    default = ClickHouseAddress()
    url = urlsplit(get("METERSTREAM_CLICKHOUSE_URL", default.url))
    try:
        port = url.port or (8443 if url.scheme == "https" else 8123)
    except ValueError as error:
        raise Unreachable(f"METERSTREAM_CLICKHOUSE_URL: {error}") from error
    return ClickHouseAddress(
        host=url.hostname or default.host,
        port=port,
        user=get("METERSTREAM_CLICKHOUSE_USER", default.user),
        password=get("METERSTREAM_CLICKHOUSE_PASSWORD", default.password),
        database=get("METERSTREAM_CLICKHOUSE_DATABASE", default.database),
        secure=url.scheme == "https",
    )


def _from_file(data: Path, file: Path) -> Connection:
    try:
        stack: dict[str, Any] = json.loads(file.read_text())
        pid = int(stack["pid"])
        connection = Connection(
            data=data,
            bootstrap=str(stack["kafka"]["bootstrap"]),
            prefix=str(stack["kafka"]["prefix"]),
            clickhouse=ClickHouseAddress(**stack["clickhouse"]),
            reader=ClickHouseAddress(**stack["reader"]),
        )
    except OSError as error:
        raise Unreachable(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"{file} is no connection file of a stack ({error})") from error
    if pid <= 0 or not psutil.pid_exists(pid):
        raise Unreachable(
            f"the stack in {data} has ended: start it again with `meterstream stack --data {data}`"
        )
    return connection
