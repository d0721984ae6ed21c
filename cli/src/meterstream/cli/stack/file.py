"""The connection file of a stack: it tells other commands where it is, and the next start too."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meterstream.cli.connection import FILE_NAME, ClickHouseAddress
from meterstream.cli.errors import Unreachable
from meterstream.local.ports import LOOPBACK, free_ports, why_closed

OWNER = "meterstream"
READER = "reader"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Ports and passwords. They stay the same over restarts where nobody took a port."""

    kafka_port: int
    clickhouse_port: int
    password: str = field(repr=False)
    reader_password: str = field(repr=False)

    def owner(self) -> ClickHouseAddress:
        """Return the way into ClickHouse of the user who may do everything."""
        return ClickHouseAddress(LOOPBACK, self.clickhouse_port, OWNER, self.password)

    def reader(self) -> ClickHouseAddress:
        """Return the way into ClickHouse of the user who may only read."""
        return ClickHouseAddress(LOOPBACK, self.clickhouse_port, READER, self.reader_password)


def choose_addresses(
    data: Path, kafka_port: int | None = None, clickhouse_port: int | None = None
) -> Addresses:
    """Take the ports that are given, else those of the last start if free, else free ones.

    Raises Unreachable where a port that was given is taken, or closed to this user.
    """
    for option, port in (("--kafka-port", kafka_port), ("--clickhouse-port", clickhouse_port)):
        if port is not None and (reason := why_closed(port)) is not None:
            raise Unreachable(
                f"port {port} on {LOOPBACK} {reason}, give another {option}, "
                f"or leave {option} out and a free port is chosen"
            )
    kept = _kept(data)
    free = free_ports(2)
    clickhouse = kept.get("clickhouse", {})
    bootstrap = str(kept.get("kafka", {}).get("bootstrap", ""))
    return Addresses(
        kafka_port=kafka_port or _if_free(bootstrap.rpartition(":")[2]) or free[0],
        clickhouse_port=clickhouse_port or _if_free(clickhouse.get("port")) or free[1],
        password=clickhouse.get("password") or secrets.token_urlsafe(24),
        reader_password=kept.get("reader", {}).get("password") or secrets.token_urlsafe(24),
    )


def write_file(data: Path, addresses: Addresses, prefix: str, services: dict[str, str]) -> None:
    """Write the connection file, readable by its owner alone: it holds passwords."""
    path = data / FILE_NAME
    stack = {
        "pid": os.getpid(),
        "kafka": {"bootstrap": f"{LOOPBACK}:{addresses.kafka_port}", "prefix": prefix},
        "clickhouse": asdict(addresses.owner()),
        "reader": asdict(addresses.reader()),
        "services": services,
    }
    written = path.with_suffix(".new")
    try:
        written.unlink(missing_ok=True)
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(stack, file, indent=2)
        written.replace(path)
    except OSError as error:
        raise Unreachable(f"{path} cannot be written: {error.strerror}") from error


def mark_ended(data: Path) -> None:
    """Say in the connection file that the stack has ended; ports and passwords stay."""
    path = data / FILE_NAME
    kept = _kept(data)
    if kept:
        kept["pid"] = 0
        path.write_text(json.dumps(kept, indent=2))


def _kept(data: Path) -> dict[str, Any]:
    try:
        kept = json.loads((data / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}  # the first start, or a damaged file: all of it can be chosen anew
    return kept if isinstance(kept, dict) else {}


def _if_free(port: object) -> int | None:
    text = str(port)
    return int(text) if text.isdigit() and why_closed(int(text)) is None else None
