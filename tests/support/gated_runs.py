"""A service for tests: threads that run what their gate admits, until a limit is reached.

python -m tests.support.gated_runs BOOTSTRAP PREFIX SPOOL_DIR THREADS PROCESSES

Prints "ready" once its gate knows the limits, begins at a line of input, and prints how many runs
it has made.
"""

import random
import sys
import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from meterstream.producers import (
    Amounts,
    GateSettings,
    LimitGate,
    Meter,
    Publisher,
    PublisherSettings,
)

TEAM = "team-1"
_ONE = Amounts(runs=1)
_LONGEST_RUN_S = 0.02
_RETRY_S = 0.02
_GIVE_UP_S = 120.0


class _Service:
    def __init__(self, gate: LimitGate, meter: Meter) -> None:
        self._gate = gate
        self._meter = meter
        self._deadline = time.monotonic() + _GIVE_UP_S
        self.made: list[int] = []

    def work(self) -> None:
        """Run what is admitted; what is refused for a moment is tried again."""
        made, chance = 0, random.Random()
        while time.monotonic() < self._deadline:
            with self._gate.reserve(_ONE, TEAM) as reservation:
                if reservation:
                    with self._meter.run(team_id=TEAM) as run:
                        time.sleep(chance.uniform(0, _LONGEST_RUN_S))
                    reservation.settle(_ONE, run.delivery)
                    made += 1
                    continue
            if reservation.decision.rule == "blocked":
                break
            time.sleep(_RETRY_S)
        self.made.append(made)


def main(bootstrap: str, prefix: str, spool_dir: str, threads: int, processes: int) -> int:
    """Run the service; return how many runs it made."""
    gate_settings = GateSettings.make(
        kafka_bootstrap=bootstrap,
        topic_prefix=prefix,
        gate_fail="fail_closed",
        gate_processes=processes,
    )
    settings = PublisherSettings.make(
        kafka_bootstrap=bootstrap,
        topic_prefix=prefix,
        spool_dir=Path(spool_dir),
        publish_timeout_ms=20_000,
    )
    registry = CollectorRegistry()
    with (
        LimitGate(gate_settings, registry=registry) as gate,
        Publisher(settings, registry=registry) as publisher,
    ):
        gate.wait_ready(_GIVE_UP_S)
        publisher.check(_GIVE_UP_S)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        service = _Service(gate, Meter(publisher, source="/tests", raise_errors=True))
        workers = [threading.Thread(target=service.work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        publisher.flush(_GIVE_UP_S)
    return sum(service.made)


if __name__ == "__main__":
    kafka, topics, spool = sys.argv[1:4]
    sys.stdout.write(f"{main(kafka, topics, spool, int(sys.argv[4]), int(sys.argv[5]))}\n")
