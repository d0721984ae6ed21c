"""Runs the meter and the publisher as processes on a real broker, and reads what they decided."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.waiting import eventually

from meterstream.schemas.journal import Chain, Header, Kind, Section, unpack_sections
from meterstream.schemas.rows import CELL_KEY
from meterstream.schemas.topics import CATALOG, TOPICS
from meterstream.schemas.verdicts import ledger_class

WAIT_S = 150.0
KEPT_RUNS = 500
_END_S = 120


def create_topics(kafka: str, prefix: str, partitions: int) -> None:
    """Create every topic as the contract asks for it."""
    admin = AdminClient({"bootstrap.servers": kafka})
    new = [
        NewTopic(prefix + spec.name, partitions if spec.partitioned else 1, 1, config=spec.config())
        for spec in TOPICS
    ]
    for created in admin.create_topics(new).values():
        created.result(30)
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests"})

    def all_led() -> bool:
        found = consumer.list_topics(timeout=10).topics
        return all(
            topic.topic in found
            and len(found[topic.topic].partitions) == topic.num_partitions
            and all(p.leader >= 0 for p in found[topic.topic].partitions.values())
            for topic in new
        )

    def all_lead() -> bool:
        for topic in new:
            for partition in range(topic.num_partitions):
                try:
                    where = TopicPartition(topic.topic, partition)
                    consumer.get_watermark_offsets(where, timeout=20)
                except KafkaException as error:  # a leader that does not know yet that it is one
                    raise AssertionError(f"{where}: {error}") from error
        return True

    eventually(all_led, 30, "all topics have leaders")
    eventually(all_lead, 30, "all leaders answer")
    consumer.close()


def run_of(number: int, *, teams: int = 20, tokens: int | None = None) -> tuple[bytes, bytes]:
    """Return key and value of a completed run that ends now; its tokens follow from its number."""
    now = datetime.now(UTC)
    team = f"team-{number % teams}"
    event = {
        "specversion": "1.0",
        "id": f"run-{number}",
        "source": "/tests",
        "type": "meterstream.run.completed.v1",
        "time": now.isoformat(),
        "data": {
            "team_id": team,
            "run_id": f"run-{number}",
            "operation": "agent_run",
            "started_at": (now - timedelta(seconds=1)).isoformat(),
            "status": "completed",
            "user_id": f"user-{number % 97}",
            "model": f"model-{number % 5}",
            "input_tokens": number if tokens is None else tokens,
        },
    }
    return team.encode(), json.dumps(event).encode()


@dataclass
class Sent:
    """What a test has sent: how many distinct runs, and the sum of their input tokens."""

    runs: int = 0
    tokens: int = 0
    broken: int = 0
    resent: int = 0

    @property
    def records(self) -> int:
        """All records, refused ones and resends included."""
        return self.runs + self.broken + self.resent


class Made(NamedTuple):
    """A record to send, and what it adds to the sums."""

    key: bytes
    value: bytes
    tokens: int = 0
    runs: int = 0
    resent: int = 0
    broken: int = 0


class Sender:
    """Sends numbered runs, every 50th twice and each `broken_every`th followed by a broken one."""

    def __init__(self, kafka: str, prefix: str, *, broken_every: int = 100) -> None:
        self._broken_every = broken_every
        self._topic = prefix + "events"
        self._producer = Producer(
            {
                "bootstrap.servers": kafka,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
            }
        )
        self.sent = Sent()
        self._next = 0
        self._first: list[tuple[bytes, bytes]] = []

    def resend(self, count: int) -> None:
        """Send the first `count` runs once more, byte by byte (500 at most)."""
        for key, value in self._first[:count]:
            self._produce(key, value)
        self.sent.resent += count
        self.flush()

    def send(self, count: int, *, per_second: float = 0) -> Sent:
        """Send `count` further runs, evenly at `per_second` if that is given; return the sums."""
        begun = time.monotonic()
        for done, made in enumerate(self.make(count)):
            self.put(made)
            if per_second and done / per_second > time.monotonic() - begun:
                self.wait(done / per_second - (time.monotonic() - begun))
        self.flush()
        return self.sent

    def make(self, count: int) -> Iterator[Made]:
        """Yield `count` further runs, with the resends and broken ones among them."""
        for _ in range(count):
            number, self._next = self._next, self._next + 1
            key, value = run_of(number)
            yield Made(key, value, tokens=number, runs=1)
            if number % 50 == 49:
                yield Made(key, value, resent=1)
            if number % self._broken_every == self._broken_every - 1:
                yield Made(key, value[:-2], broken=1)

    def put(self, made: Made) -> None:
        """Send one record, and count it."""
        self._produce(made.key, made.value)
        if made.runs and made.tokens < KEPT_RUNS:
            self._first.append((made.key, made.value))
        self.sent.runs += made.runs
        self.sent.tokens += made.tokens
        self.sent.resent += made.resent
        self.sent.broken += made.broken

    def wait(self, seconds: float) -> None:
        """Let time pass while what was sent is acknowledged."""
        self._producer.poll(seconds)

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert self._producer.flush(60) == 0, "everything was sent"

    def _produce(self, key: bytes, value: bytes) -> None:
        while True:
            try:
                return self._producer.produce(self._topic, value, key=key)
            except BufferError:
                self._producer.poll(0.1)


class Service:
    """A running service, its log, and its status port."""

    def __init__(
        self, module: str, arguments: Sequence[str], settings: Mapping[str, str], log: Path
    ) -> None:
        self._log_path = log
        self._file = log.open("ab")
        env = {k: v for k, v in os.environ.items() if not k.startswith("METERSTREAM_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=env | dict(settings),
            stderr=self._file,
        )

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log_path.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait(_END_S)
        self._file.close()

    def stop(self) -> int:
        """End it in order; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(_END_S)
        self._file.close()
        return status

    def _port(self) -> int:
        for line in self.log.splitlines():
            if "metrics on http://" in line:
                return int(line.rsplit(":", 1)[1].removesuffix("/metrics"))
        return 0

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of its status port; 0 where none answers yet."""
        port = self._port()
        if not port:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def faults(self) -> Any:
        """Return what keeps it from being ready; None where it does not answer."""
        status, body = self.get("/readyz")
        return json.loads(body)["faults"] if status else None

    def wait_stopped(self, partitions: int) -> dict[str, str]:
        """Wait until it says that it stopped so many partitions; return why, by partition."""

        def stopped() -> dict[str, str]:
            reasons: dict[str, str] = (self.faults() or {}).get("stopped", {})
            assert len(reasons) == partitions, reasons
            return reasons

        return eventually(stopped, WAIT_S, f"{partitions} partitions are stopped")

    def wait_ready(self) -> "Service":
        """Wait until it is ready."""

        def ready() -> bool:
            assert self.process.poll() is None, f"it ended: {self.log[-2000:]}"
            faults = self.faults()
            assert not faults, faults
            return faults is not None

        eventually(ready, WAIT_S, "the service is ready")
        return self


METER = "meterstream.streams.app"
PUBLISHER = "meterstream.streams.publisher"

Start = Callable[..., Service]


@contextlib.contextmanager
def services(kafka: str, prefix: str) -> Iterator[Start]:
    """Yield a function that starts a service; whatever still runs at the end is killed.

    Batches are small and windows short, so that faults fall between and within many of them.
    """
    running: list[Service] = []
    with tempfile.TemporaryDirectory() as directory:

        def start(
            module: str = METER, *, arguments: Sequence[str] = (), **settings: object
        ) -> Service:
            values = {
                "KAFKA_BOOTSTRAP": kafka,
                "TOPIC_PREFIX": prefix,
                "METER_METRICS_PORT": 0,
                "PUBLISHER_METRICS_PORT": 0,
                "BATCH_MAX_EVENTS": 400,
                "BATCH_LINGER_MS": 20,
                "FETCH_MAX_BYTES": 131_072,
                "SESSION_TIMEOUT_SECONDS": 6,
                "IDLE_SECONDS": 1,
            } | {name.upper(): value for name, value in settings.items()}
            service = Service(
                module,
                arguments,
                {f"METERSTREAM_{name}": str(value) for name, value in values.items()},
                Path(directory) / f"{len(running)}.log",
            )
            running.append(service)
            return service

        try:
            yield start
        finally:
            for service in running:
                if service.process.poll() is None:
                    service.signal(signal.SIGCONT)
                    service.kill()


@dataclass
class Decided:
    """What the valid records of a journal decided, all partitions together."""

    classes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    positions: dict[int, int] = field(default_factory=dict)
    clocks_us: dict[int, int] = field(default_factory=dict)
    runs: int = 0
    tokens: int = 0
    void_records: int = 0
    generations: set[int] = field(default_factory=set)
    catalog_entries: int = 0
    rejects: set[tuple[str, int, int]] = field(default_factory=set)
    """(topic, partition, offset) of each dead letter."""

    @property
    def offsets(self) -> int:
        """How many offsets have a verdict."""
        return sum(self.classes.values())


def partitions_of(kafka: str, topic: str) -> dict[int, tuple[int, int]]:
    """Return start and end of the log of each partition."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests"})
    try:
        numbers = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
            for number in numbers
        }
    finally:
        consumer.close()


def messages_of(kafka: str, topic: str, *, committed: bool = False) -> Iterator[Any]:
    """Yield the messages that a topic holds now, partition after partition."""
    bounds = partitions_of(kafka, topic)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "tests",
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
        }
    )
    try:
        for number, (start, end) in bounds.items():
            position = start
            consumer.assign([TopicPartition(topic, number, start)])
            while position < end:
                message = consumer.poll(30)
                assert message is not None, f"{topic}-{number} stops at {position} of {end}"
                position = (message.offset() or 0) + (message.error() is None)
                if message.error() is None and position <= end:
                    yield message
                elif message.error() is not None and committed:
                    break  # an open or aborted transaction ends what may be read
    finally:
        consumer.close()


class Follower:
    """Follows the chain of each journal partition from its beginning, and adds up what it says."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests"})
        self._chains: dict[int, Chain] = {}
        self._cells: dict[tuple[object, ...], tuple[int, int]] = {}
        self._decided = Decided()
        topic = prefix + "journal"
        starts = partitions_of(kafka, topic)
        self._consumer.assign([TopicPartition(topic, p, start) for p, (start, _) in starts.items()])

    def decided(self) -> Decided:
        """Read what is new; return all that was decided so far."""
        messages = None
        while messages is None or len(messages) == 200:  # else it never ends where idle ones come
            messages = self._consumer.consume(200, 0.3)
            for message in messages:
                if message.error() is None:
                    self._take(message)
        decided = copy.deepcopy(self._decided)
        for partition, chain in self._chains.items():
            assert chain.link is not None
            decided.positions[partition] = chain.link.events_position
            decided.clocks_us[partition] = chain.link.clock_us
            decided.void_records += chain.void_records
        decided.runs += sum(runs for runs, _ in self._cells.values())
        decided.tokens += sum(tokens for _, tokens in self._cells.values())
        return decided

    def has_read(self, ends: Mapping[int, int]) -> bool:
        """Whether the journal was read up to these offsets."""
        read = {p: chain.link.next_offset for p, chain in self._chains.items() if chain.link}
        return all(read.get(partition, 0) >= end for partition, end in ends.items())

    def close(self) -> None:
        """Close its consumer."""
        self._consumer.close()

    def _take(self, message: Any) -> None:
        partition = message.partition()
        chain = self._chains.setdefault(partition, Chain())
        header = Header.unpack(message.headers()[0][1])
        if not chain.take(message.offset(), message.timestamp()[1] * 1000, header):
            return
        header.check_value(message.value())
        self._decided.kinds[header.kind] += 1
        self._decided.generations.add(header.generation)
        _add(self._decided, self._cells, partition, header, unpack_sections(message.value()))


def wait_until(
    kafka: str, prefix: str, condition: Callable[[Decided], object], what: str
) -> Decided:
    """Wait until `condition` holds of what the journal has decided by now or later; return that."""
    bounds = partitions_of(kafka, prefix + "journal")
    ends = {partition: end for partition, (start, end) in bounds.items() if start < end}
    follower = Follower(kafka, prefix)

    def reached() -> Decided | None:
        decided = follower.decided()
        return decided if follower.has_read(ends) and condition(decided) else None

    try:
        found = eventually(reached, WAIT_S, what)
    finally:
        follower.close()
    assert found is not None
    return found


def read_decided(kafka: str, prefix: str) -> Decided:
    """Return what the journal has decided by now."""
    return wait_until(kafka, prefix, lambda _: True, "the journal is read")


def _add(
    decided: Decided,
    cells: dict[tuple[object, ...], tuple[int, int]],
    partition: int,
    header: Header,
    sections: Mapping[Section, memoryview],
) -> None:
    for verdict in bytes(sections.get(Section.VERDICTS, b"")):
        decided.classes[ledger_class(verdict)] += 1
    if Section.CELLS in sections:
        for key, runs, tokens in _rows(sections[Section.CELLS]):
            cells[partition, header.generation, *key] = (runs, tokens)
    if Section.LATE_MINUTES in sections:
        for _, runs, tokens in _rows(sections[Section.LATE_MINUTES]):
            decided.runs += runs
            decided.tokens += tokens
    if Section.CATALOG in sections:
        decided.catalog_entries += len(json.loads(bytes(sections[Section.CATALOG])))
    for topic, offset, *_ in json.loads(bytes(sections.get(Section.REJECTS, b"[]"))):
        decided.rejects.add((topic, 0 if topic == CATALOG else partition, offset))


def _rows(section: memoryview) -> Iterator[tuple[tuple[object, ...], int, int]]:
    table = pa.ipc.open_stream(section).read_all()
    keys = [table.column(column.name).to_pylist() for column in CELL_KEY]
    runs = table.column("runs").to_pylist()
    tokens = table.column("input_tokens").to_pylist()
    for at, key in enumerate(zip(*keys, strict=True)):
        yield key, runs[at], tokens[at]


def wait_decided(kafka: str, prefix: str) -> Decided:
    """Wait until every offset of the events topic has a verdict; return what was decided."""
    ends = {p: end for p, (_, end) in partitions_of(kafka, prefix + "events").items()}
    return wait_until(kafka, prefix, lambda d: d.positions == ends, f"decided up to {ends}")


def check(decided: Decided, sent: Sent) -> None:
    """Hold what was decided against what was sent: each run once, to the token."""
    assert decided.classes["counted"] == decided.runs == sent.runs
    assert decided.tokens == sent.tokens
    assert decided.classes["duplicate"] == sent.resent
    assert decided.classes["rejected"] == sent.broken
    assert decided.offsets == sent.records
