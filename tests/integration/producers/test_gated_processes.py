"""Several processes with a gate each: how far they pass a hard limit together."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.support.gated_runs import TEAM
from tests.support.limit_states import PARTITIONS, StatesTopic, heartbeats, limit
from tests.support.publishing import create_events_topic, read_topic

from meterstream.schemas.partitions import partition_of

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PROCESSES = 4
THREADS = 25
CAP = 1_000
INTERVAL_S = 0.25
"""How often the states are told, as the publisher does."""
TIMEOUT_S = 240
ROOT = Path(__file__).parents[3]


class _Counter(threading.Thread):
    """Counts the runs of the team and tells its limit, by the contract: meter and publisher."""

    def __init__(self, bootstrap: str, events: str, states: StatesTopic) -> None:
        super().__init__(daemon=True)
        self._kafka = bootstrap
        self._events = events
        self._states = states
        self._partition = partition_of(TEAM, PARTITIONS)
        self.stop = threading.Event()

    def run(self) -> None:
        consumer = Consumer({"bootstrap.servers": self._kafka, "group.id": "counter"})
        consumer.assign([TopicPartition(self._events, self._partition, 0)])
        used, order = 0, 1
        try:
            while not self.stop.is_set():
                found = consumer.consume(10_000, INTERVAL_S)
                used += sum(message.error() is None for message in found)
                order += 1
                self._states.write(
                    limit(TEAM, amount=CAP, used=used, offset=order, position=used),
                    heartbeats(order, position=used),
                )
        finally:
            consumer.close()


def test_four_processes_of_25_threads_keep_to_a_hard_cap(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """On a cap of 1,000 runs of one each they make all of these, and 100 more at most."""
    events = create_events_topic(kafka, prefix)
    states = StatesTopic(kafka, prefix)
    states.create()
    states.write(limit(TEAM, amount=CAP), heartbeats(1, position=0))
    command = [sys.executable, "-m", "tests.support.gated_runs", kafka, prefix, str(tmp_path)]
    counter = _Counter(kafka, events, states)
    counter.start()
    services = [
        subprocess.Popen(
            [*command, str(THREADS), str(PROCESSES)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for service in services:
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
        for service in services:
            assert service.stdin is not None
            service.stdin.write("begin\n")
            service.stdin.flush()
        made = [int(service.communicate(timeout=TIMEOUT_S)[0]) for service in services]
    finally:
        for service in services:
            service.kill()
            service.wait()
        counter.stop.set()
        counter.join(TIMEOUT_S)
    assert all(made)
    assert CAP <= sum(made) <= CAP + PROCESSES * THREADS
    assert len({value for _, _, value in read_topic(kafka, events)}) == sum(made)
