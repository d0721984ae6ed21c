"""The whole pipeline as processes on given servers: meter, sink and publisher, to be killed."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition
from tests.support.command import Ran, call_command, run_command
from tests.support.services import METER, PUBLISHER, Made, Sender, Service, create_topics, services
from tests.support.stack import ClickHouseAddress

from meterstream.schemas.journal import HEADER_KEY, Header

PARTITIONS = 4
SINK = "meterstream.sinks.app"
SESSION_S = 6
ORGANISATIONS = ("--organisations",)
SERVICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "meter": (METER, ()),
    "sink": (SINK, ()),
    "publisher": (PUBLISHER, ()),
    "org-meter": (METER, ORGANISATIONS),
    "org-publisher": (PUBLISHER, ORGANISATIONS),
}
"""What each service is started with, in the order in which they are stopped."""


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
    reader: Consumer
    running: dict[str, Service] = field(default_factory=dict)

    def start(self, *names: str) -> None:
        """Start services, without waiting for them."""
        for name in names:
            module, arguments = SERVICES[name]
            self.running[name] = self.start_service(
                module, arguments=arguments, **SETTINGS, **self.clickhouse
            )

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
        for name in SERVICES:
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

    def kill_in_the_middle(self, *targets: str, killed: Callable[[], None]) -> "Kill":
        """Kill services at once; say which of them had work in their hands at that moment.

        `killed` is called then. What there was to do is found by log time, so nothing has to be
        asked before, while the services work on.

        A meter had if the events topic held records that it never decided; a sink had if the
        journal held decisions that it never stored.
        """
        busy, at_ms = psutil.cpu_percent(), time.time_ns() // 1_000_000
        self.kill(*targets)
        killed()
        events, journal = self.ends("events", at_ms), self.ends("journal", at_ms)
        unfinished = set()
        if "meter" in targets:
            decided = self.decided(self.ends("journal"))
            if any(end > at for end, at in zip(events, decided, strict=True)):
                unfinished.add("meter")
        if "sink" in targets:
            stored = self.stored()
            decided = self.decided(journal)
            if any(at > seen for at, seen in zip(decided, stored, strict=True)):
                unfinished.add("sink")
        return Kill(at_ms, busy, frozenset(unfinished))

    def ends(self, name: str, before_ms: int | None = None) -> list[int]:
        """Return the end of each partition's log, or the one that it had before a time."""
        topic = self.prefix + name
        ends = [
            self.reader.get_watermark_offsets(TopicPartition(topic, p), timeout=20, cached=False)[1]
            for p in range(PARTITIONS)
        ]
        if before_ms is None:
            return ends
        wanted = [TopicPartition(topic, p, before_ms) for p in range(PARTITIONS)]
        found = self.reader.offsets_for_times(wanted, timeout=20)
        return [end if at.offset < 0 else at.offset for at, end in zip(found, ends, strict=True)]

    def decided(self, journal_ends: list[int]) -> list[int]:
        """Return for each partition how far the journal up to these ends decides the events."""
        found = []
        for partition, end in enumerate(journal_ends):
            if not end:
                found.append(0)
                continue
            self.reader.assign([TopicPartition(self.prefix + "journal", partition, end - 1)])
            message = self.reader.poll(20)
            assert message is not None, f"journal {partition}: no record at {end - 1}"
            headers: dict[str, Any] = dict(message.headers() or ())
            found.append(Header.unpack(headers[HEADER_KEY]).events_to)
        self.reader.unassign()  # a fetch that waits at an end holds up every other question
        return found

    def stored(self) -> list[int]:
        """Return for each partition how many events the ledger in ClickHouse covers."""
        rows = self.client.query(
            "SELECT partition, max(events_to) FROM ledger"
            " WHERE kind != 'genesis' GROUP BY partition"
        ).result_rows
        upto = {int(partition): int(events_to) for partition, events_to in rows}
        return [upto.get(partition, 0) for partition in range(PARTITIONS)]


@dataclass(frozen=True, slots=True)
class Kill:
    """A moment at which services were killed."""

    at_ms: int
    """That moment, as brokers note times: milliseconds since 1970."""
    busy_percent: float
    """How busy the processors were since psutil was asked before."""
    unfinished: frozenset[str]
    """Those of the services that had work in their hands."""


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
    reader = Consumer({"bootstrap.servers": kafka, "group.id": "tests-pipeline"})
    with services(kafka, prefix) as start:
        made = Pipeline(
            kafka, prefix, environment, client, directory, start, Sender(kafka, prefix), reader
        )
        migrated = call_command("migrate", env=environment)
        assert migrated.exit_code == 0, migrated.stderr
        yield made
    reader.close()
    client.close()


class Traffic:
    """Sends runs in the background, `per_second` records of them, for as long as it is open.

    With `ahead_s` it sends for so many seconds at most, and all of it is made beforehand: so a
    machine that is busy with the pipeline still sends at that rate.
    """

    def __init__(self, sender: Sender, per_second: int, *, ahead_s: float = 0) -> None:
        self._sender = sender
        self._per_second = per_second
        self._ahead = list(sender.make(round(per_second * ahead_s)))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        burst = max(1, self._per_second // 200)
        begun = time.monotonic()
        for done, made in enumerate(self._made()):
            self._sender.put(made)
            if done % burst == 0:
                early = done / self._per_second - (time.monotonic() - begun)
                self._sender.wait(max(0.0, early))
                if self._end.is_set():
                    break
        self._sender.flush()

    def _made(self) -> Iterator[Made]:
        yield from self._ahead
        while not self._ahead:
            yield from self._sender.make(1)

    def end(self) -> None:
        """Send no more than what is under way."""
        self._end.set()

    def __enter__(self) -> "Traffic":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no more, and wait until the broker has what was sent."""
        self.end()
        self._thread.join()


def moments(seed: int, count: int) -> list[float]:
    """Return `count` seeded waits before a kill, between 0.2 and 1.5 seconds."""
    rng = random.Random(seed)
    return [rng.uniform(0.2, 1.5) for _ in range(count)]
