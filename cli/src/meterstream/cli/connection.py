"""Where Kafka and ClickHouse are: the connection file of a stack, else the environment."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from meterstream.cli.errors import Unreachable
from meterstream.schemas.topics import DEFAULT_PREFIX

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


@dataclass(frozen=True, slots=True)
class Connection:
    """All that a command needs to know of where it works.

    `data` is the directory that commands keep their own small files in.
    """

    data: Path
    bootstrap: str
    prefix: str = DEFAULT_PREFIX
    clickhouse: ClickHouseAddress = field(default_factory=ClickHouseAddress)
    from_stack: bool = False

    def kafka(self) -> dict[str, str]:
        """Return the Kafka client's settings for this broker."""
        return {"bootstrap.servers": self.bootstrap}

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
    bootstrap = os.environ.get("METERSTREAM_KAFKA_BOOTSTRAP")
    file = data / FILE_NAME
    if given is None and bootstrap:
        return _from_environment(data, bootstrap)
    if file.exists():
        return _from_file(data, file)
    raise Unreachable(
        f"no stack runs in {data}: start one with `meterstream stack --data {data}`, name another "
        "directory with --data, or set METERSTREAM_KAFKA_BOOTSTRAP"
    )


def _from_environment(data: Path, bootstrap: str) -> Connection:
    get = os.environ.get
    default = ClickHouseAddress()
    port = get("METERSTREAM_CLICKHOUSE_PORT", str(default.port))
    if not port.isdigit():
        raise Unreachable(f"METERSTREAM_CLICKHOUSE_PORT is {port!r}, which is no port")
    return Connection(
        data=data,
        bootstrap=bootstrap,
        prefix=get("METERSTREAM_TOPIC_PREFIX", DEFAULT_PREFIX),
        clickhouse=ClickHouseAddress(
            host=get("METERSTREAM_CLICKHOUSE_HOST", default.host),
            port=int(port),
            user=get("METERSTREAM_CLICKHOUSE_USER", default.user),
            password=get("METERSTREAM_CLICKHOUSE_PASSWORD", default.password),
            database=get("METERSTREAM_CLICKHOUSE_DATABASE", default.database),
            secure=get("METERSTREAM_CLICKHOUSE_SECURE", "") in {"1", "true", "yes"},
        ),
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
            from_stack=True,
        )
    except OSError as error:
        raise Unreachable(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"{file} is no connection file of a stack ({error})") from error
    if not psutil.pid_exists(pid):
        raise Unreachable(
            f"the stack in {data} has ended (process {pid} is gone): start it again with "
            f"`meterstream stack --data {data}`"
        )
    return connection
