"""A broker, a ClickHouse engine and services for a benchmark, each on the cores it is given."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from meterstream.local.clickhouse import ClickHouseServer
from meterstream.local.kafka import KafkaBroker
from meterstream.local.ports import free_ports
from meterstream.schemas.journal import HEADER_KEY, Header
from meterstream.schemas.topics import CATALOG, EVENTS, JOURNAL

PARTITIONS = 4
CARD = {
    "specversion": "1.0",
    "type": "meterstream.rate-card.published.v1",
    "source": "/bench",
    "id": "card-1",
    "time": "2026-01-01T00:00:00Z",
    "data": {
        "name": "default",
        "version": 1,
        "effective_from": "2026-01-01T00:00:00Z",
        "prices": [
            {"input_micro_per_1k": 3_000, "output_micro_per_1k": 15_000},
            *(
                {
                    "model": f"model-{n}",
                    "input_micro_per_1k": 300 * (n + 1),
                    "output_micro_per_1k": 1_500 * (n + 1),
                }
                for n in range(5)
            ),
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses of a broker and an engine, and the topics and database of one benchmark."""

    bootstrap: str
    clickhouse: ClickHouseServer | None
    prefix: str
    data: Path
    database: str | None = None
    """Where the services store; named after the prefix if not told."""

    @property
    def database_name(self) -> str:
        """The database of the services and commands."""
        return self.database or self.prefix.strip(".").replace("-", "_")

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.prefix + name

    @property
    def environment(self) -> dict[str, str]:
        """What every service and command of this benchmark is told."""
        told = dict(os.environ) | {
            "METERSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "METERSTREAM_TOPIC_PREFIX": self.prefix,
            "METERSTREAM_DATA": str(self.data / "none"),
        }
        if self.clickhouse is not None:
            told |= {
                "METERSTREAM_CLICKHOUSE_URL": self.clickhouse.url,
                "METERSTREAM_CLICKHOUSE_USER": self.clickhouse.user,
                "METERSTREAM_CLICKHOUSE_PASSWORD": self.clickhouse.password,
                "METERSTREAM_CLICKHOUSE_DATABASE": self.database_name,
            }
        return told

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a meterstream command to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "meterstream.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1_200,
        )
        if done.returncode not in (0, 1):
            raise RuntimeError(f"meterstream {' '.join(arguments)}: {done.stderr[-2_000:]}")
        return done

    def set_up(self, partitions: int = PARTITIONS) -> None:
        """Create topics and tables, and put a rate card in force."""
        self.command("topics", "--partitions", str(partitions))
        if self.clickhouse is not None:
            self.command("migrate")
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce(self.topic(CATALOG), json.dumps(CARD).encode(), key="rate-card/default/1")
        if producer.flush(10):
            raise RuntimeError("the broker did not take the rate card")

    def ends(self, topic: str, partitions: int = PARTITIONS) -> list[int]:
        """Return the end offset of each partition."""
        consumer = self._consumer()
        try:
            return [
                consumer.get_watermark_offsets(TopicPartition(self.topic(topic), p))[1]
                for p in range(partitions)
            ]
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "bench-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )


@contextmanager
def stack(data: Path, prefix: str, *, clickhouse: bool, pinned: bool = True) -> Iterator[Stack]:
    """Run a broker, and an engine if asked; stop them and drop their data.

    They stay on the first core, if they are `pinned`: services that are measured have another.
    """
    data.mkdir(parents=True, exist_ok=True)
    own = psutil.Process()
    cores = own.cpu_affinity()
    own.cpu_affinity(
        [cores[0]] if pinned else cores
    )  # the children inherit it; services are pinned on their own
    server = ClickHouseServer(data / "clickhouse") if clickhouse else None
    try:
        with KafkaBroker(data / "kafka") as broker:
            if server is not None:
                server.start()
            yield Stack(broker.bootstrap, server, prefix, data)
    finally:
        if server is not None:
            server.stop()
        own.cpu_affinity(cores)
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def service(
    stack: Stack, name: str, *, core: int | None, settings: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """Run one installed service, on one core if given, and end it."""
    (port,) = free_ports(1)
    log = (stack.data / f"{name}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "meterstream.cli", name],
        env=stack.environment
        | {f"METERSTREAM_{name.upper()}_METRICS_PORT": str(port)}
        | dict(settings),
        stdout=log,
        stderr=log,
    )
    seen = psutil.Process(process.pid)
    seen.cpu_affinity([core] if core is not None else list(range(psutil.cpu_count() or 1)))
    try:
        yield seen
    finally:
        if process.poll() is not None:
            print((stack.data / f"{name}.log").read_text()[-2_000:], file=sys.stderr)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@dataclass(slots=True)
class JournalEnd:
    """The last record of a journal partition: how far the events are decided, and since when."""

    events_to: int
    time_ms: int
    offset: int


class JournalWatch:
    """Looks at the last record of each journal partition, and at nothing else."""

    def __init__(self, stack: Stack, partitions: int = PARTITIONS) -> None:
        self._topic = stack.topic(JOURNAL)
        self._partitions = partitions
        self._consumer = stack._consumer()

    def last(self, partition: int) -> JournalEnd | None:
        """Return the last record of a partition, None if there is none yet."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition))
        return self.at(partition, high - 1) if high > low else None

    def at(self, partition: int, offset: int) -> JournalEnd:
        """Return the record at an offset."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            message = self._consumer.poll(1.0)
            if message is None or message.error() is not None:
                continue
            headers: dict[str, Any] = dict(message.headers() or ())
            header = Header.unpack(headers[HEADER_KEY])
            return JournalEnd(header.events_to, message.timestamp()[1], offset)
        raise RuntimeError(f"journal partition {partition}: offset {offset} does not arrive")

    def decided(self) -> list[int]:
        """Return the next undecided offset of each events partition."""
        ends = [self.last(p) for p in range(self._partitions)]
        return [end.events_to if end is not None else 0 for end in ends]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def events_ends(stack: Stack) -> list[int]:
    """Return the end offsets of the events topic."""
    return stack.ends(EVENTS)
