"""The whole pipeline as processes on given servers: meter, sink and publisher, to be killed."""

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition
from tests.support.command import Ran, run_command
from tests.support.services import METER, PUBLISHER, Sender, Service, create_topics, services
from tests.support.stack import ClickHouseAddress

from meterstream.schemas.journal import HEADER_KEY, Header

PARTITIONS = 4
SINK = "meterstream.sinks.app"
SESSION_S = 6
MODULES = {"meter": METER, "sink": SINK, "publisher": PUBLISHER}


@dataclass
class Pipeline:
    """A pipeline on topics and tables of its own; `running` holds its services by name."""

    kafka: str
    prefix: str
    environment: Mapping[str, str]
    client: Client
    directory: Path
    start_service: Any
    sender: Sender
    running: dict[str, Service] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start services, without waiting for them."""
        for name in names:
            self.running[name] = self.start_service(MODULES[name], **SETTINGS, **self.clickhouse)

    @property
    def clickhouse(self) -> dict[str, str]:
        """Where the services find ClickHouse."""
        return {
            key.removeprefix("METERSTREAM_").lower(): value
            for key, value in self.environment.items()
            if key.startswith("METERSTREAM_CLICKHOUSE_")
        }

    def wait_ready(self) -> None:
        """Wait until all services are ready."""
        for service in self.running.values():
            service.wait_ready()

    def kill(self, *names: str) -> None:
        """End services at once, as a crash would."""
        for name in names:
            self.running.pop(name).kill()

    def stop(self) -> None:
        """End all services in order: nothing may be left that only a kill would end."""
        for name in ("meter", "sink", "publisher"):
            if name in self.running:
                status = self.running.pop(name).stop()
                assert status == 0, f"{name} ended with {status}"

    def run(self, *arguments: str, timeout_s: float = 120) -> Ran:
        """Run a meterstream command on this pipeline."""
        return run_command(
            *arguments, env=self.environment, cwd=self.directory, timeout_s=timeout_s
        )

    def audit(self) -> Any:
        """Return what the audit finds; it must exit 0 with no difference."""
        ran = self.run("audit", "--json", "--timeout", "240", timeout_s=400)
        assert ran.exit_code == 0, "\n".join(
            [ran.stdout[-3000:], ran.stderr[-3000:]]
            + [f"{name}: {one.log[-3000:]}" for name, one in self.running.items()]
        )
        return json.loads(ran.stdout)

    def check_stored(self) -> None:
        """Hold what ClickHouse has against what was sent: each run once, to the token."""
        found = self.client.query(
            "SELECT sum(runs), sum(input_tokens) FROM usage_minutes FINAL"
        ).result_rows[0]
        assert found == (self.sender.sent.runs, self.sender.sent.tokens)
        history = self.client.query(
            "SELECT count(), sum(input_tokens) FROM runs FINAL"
        ).result_rows[0]
        assert history == (self.sender.sent.runs, self.sender.sent.tokens)

    def undecided(self) -> int:
        """Return how many events the journal has not decided yet."""
        return behind(self.kafka, self.prefix)


SETTINGS = {
    "batch_max_events": 20_000,
    "batch_linger_ms": 100,
    "fetch_max_bytes": 8_388_608,
    "session_timeout_seconds": SESSION_S,
    "sink_metrics_port": 0,
}


@contextmanager
def pipeline(
    kafka: str,
    prefix: str,
    clickhouse: ClickHouseAddress,
    database: str,
    directory: Path,
) -> Iterator[Pipeline]:
    """Create topics and tables, and yield a pipeline of which nothing runs yet."""
    create_topics(kafka, prefix, PARTITIONS)
    environment = {
        "METERSTREAM_KAFKA_BOOTSTRAP": kafka,
        "METERSTREAM_TOPIC_PREFIX": prefix,
        "METERSTREAM_CLICKHOUSE_URL": clickhouse.url,
        "METERSTREAM_CLICKHOUSE_USER": clickhouse.user,
        "METERSTREAM_CLICKHOUSE_PASSWORD": clickhouse.password,
        "METERSTREAM_CLICKHOUSE_DATABASE": database,
        "METERSTREAM_DATA": str(directory / "no-stack"),
    }
    first = clickhouse.client()
    first.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", parameters={"name": database})
    first.close()
    client = clickhouse.client(database)
    with services(kafka, prefix) as start:
        made = Pipeline(kafka, prefix, environment, client, directory, start, Sender(kafka, prefix))
        migrated = made.run("migrate")
        assert migrated.exit_code == 0, migrated.stderr
        yield made
    client.close()


def behind(kafka: str, prefix: str) -> int:
    """Return how many events lie behind the last record of each journal partition."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests-behind"})
    try:
        undecided = 0
        for partition in range(PARTITIONS):
            _, end = consumer.get_watermark_offsets(
                TopicPartition(prefix + "events", partition), timeout=20
            )
            _, high = consumer.get_watermark_offsets(
                TopicPartition(prefix + "journal", partition), timeout=20
            )
            decided = 0
            if high:
                consumer.assign([TopicPartition(prefix + "journal", partition, high - 1)])
                message = consumer.poll(20)
                assert message is not None, f"journal {partition}: no record at {high - 1}"
                headers: dict[str, Any] = dict(message.headers() or ())
                decided = Header.unpack(headers[HEADER_KEY]).events_to
            undecided += max(0, end - decided)
        return undecided
    finally:
        consumer.close()


class Traffic:
    """Sends runs in the background, `per_second` of them, for as long as it is open."""

    def __init__(self, sender: Sender, per_second: int) -> None:
        self._sender = sender
        self._per_second = per_second
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seconds = 0.0
        self.runs = 0

    def _run(self) -> None:
        begun, before = time.monotonic(), self._sender.sent.runs
        while not self._end.is_set():
            self._sender.send(self._per_second // 10, per_second=self._per_second)
        self.seconds, self.runs = time.monotonic() - begun, self._sender.sent.runs - before

    def end(self) -> None:
        """Send no more than what is under way."""
        self._end.set()

    def __enter__(self) -> "Traffic":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send the last tenth of a second's runs, and wait until the broker has them all."""
        self.end()
        self._thread.join()


def moments(seed: int, count: int) -> list[float]:
    """Return `count` seeded waits before a kill, between 0.2 and 1.5 seconds."""
    rng = random.Random(seed)
    return [rng.uniform(0.2, 1.5) for _ in range(count)]
