"""The services of a stack, as processes of this command."""

import os
import sys
from pathlib import Path
from typing import Final

from meterstream.local.ports import LOOPBACK, free_ports
from meterstream.local.service import Service

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 30.0

METRICS_PORT_VARIABLES: Final = {
    "meter": "METERSTREAM_METER_METRICS_PORT",
    "publisher": "METERSTREAM_PUBLISHER_METRICS_PORT",
    "sink": "METERSTREAM_SINK_METRICS_PORT",
    "notifier": "METERSTREAM_NOTIFIER_METRICS_PORT",
}
"""The services, and the variable that each reads the port of its /metrics and /readyz from."""


OF_ORGANISATIONS: Final = " --organisations"
"""Makes a meter or publisher one of the second stage."""

NOTIFIER_FILE: Final = "METERSTREAM_NOTIFIER_FILE"
"""The notifier is part of a stack where this names its destinations."""


def plan(meters: int, environment: dict[str, str], log: Path) -> list[Service]:
    """Return the services of a stack with so many meters.

    Each stage has its meters and a publisher. They are stopped from the last to the first: teams
    before organisations, and meters first, so that the others still see what they decided.
    """
    names = [("sink", "sink")]
    if NOTIFIER_FILE in os.environ | environment:
        names.append(("notifier", "notifier"))
        # It is the only one, so it need not wait for the one that it replaces.
        environment = {"METERSTREAM_NOTIFIER_INSTANCE": "stack", **environment}
    names += [(f"{name}-organisations", name + OF_ORGANISATIONS) for name in ("publisher", "meter")]
    names.append(("publisher", "publisher"))
    names += [("meter" if meters == 1 else f"meter-{n + 1}", "meter") for n in range(meters)]
    return [
        Service(
            name,
            [sys.executable, "-m", "meterstream.cli", *command.split()],
            log / f"{name}.log",
            ready=f"http://{LOOPBACK}:{port}/readyz",
            env=environment | {METRICS_PORT_VARIABLES[command.split()[0]]: str(port)},
            start_timeout_s=START_TIMEOUT_S,
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        for (name, command), port in zip(names, free_ports(len(names)), strict=True)
    ]


def address(service: Service) -> str:
    """Return where a service serves /metrics, /healthz and /readyz."""
    return str(service.ready).removesuffix("/readyz")
