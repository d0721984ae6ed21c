"""The services of a stack, as processes of this command."""

import http.client
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meterstream.local.ports import LOOPBACK
from meterstream.local.process import ManagedProcess

READY_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 30.0
ASK_TIMEOUT_S: Final = 2.0

METRICS_PORT_VARIABLES: Final = {
    "meter": "METERSTREAM_METER_METRICS_PORT",
    "publisher": "METERSTREAM_PUBLISHER_METRICS_PORT",
    "sink": "METERSTREAM_SINK_METRICS_PORT",
}
"""The services, and the variable that each reads the port of its /metrics and /readyz from."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of a service. Several may run the same command."""

    name: str
    command: str
    port: int

    @property
    def url(self) -> str:
        """Where its metrics and its readiness are served."""
        return f"http://{LOOPBACK}:{self.port}"

    def process(self, environment: dict[str, str], log: Path) -> ManagedProcess:
        """Return the process, not started yet."""
        return ManagedProcess(
            self.name,
            [sys.executable, "-m", "meterstream.cli", self.command],
            log_path=log / f"{self.name}.log",
            env=environment | {METRICS_PORT_VARIABLES[self.command]: str(self.port)},
            grace_s=STOP_TIMEOUT_S,
        )

    def ready(self) -> bool:
        """Ask the service whether it does its work."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def plan(meters: int, ports: tuple[int, ...]) -> list[Service]:
    """Return the services of a stack with so many meters, in the order they are stopped in."""
    names = [("meter" if meters == 1 else f"meter-{n + 1}", "meter") for n in range(meters)]
    names += [("publisher", "publisher"), ("sink", "sink")]
    return [
        Service(name, command, port) for (name, command), port in zip(names, ports, strict=True)
    ]
