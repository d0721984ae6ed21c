"""The loop of a journal feed with doubles in the place of Kafka and ClickHouse."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from confluent_kafka import KafkaError, KafkaException
from tests.support.journal import TODAY_US, Writer, cell

from meterstream.schemas.journal import Link, MalformedRecord
from meterstream.sinks import journal_feed, retry
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.journal_feed import FlushPolicy, JournalFeed, JournalSource
from meterstream.sinks.metrics import SinkMetrics
from meterstream.sinks.record import JournalRecord
from meterstream.sinks.start import Kept, Start


class Reader:
    """A reader that returns what it is given, calls what it is told to, and then stops the feed."""

    def __init__(self, *_: object) -> None:
        self.topic = "journal"
        self.script: list[JournalRecord | Callable[[], None]] = []
        self.committed: list[Mapping[int, Link]] = []
        self.stop = threading.Event()
        self.closed = False
        self.partitions = [0]

    def poll(self, timeout_s: float) -> JournalRecord | None:
        if not self.script:
            self.stop.set()
            return None
        step = self.script.pop(0)
        if isinstance(step, JournalRecord):
            return step
        step()
        return None

    def lag(self, partition: int) -> int:
        return 3

    def void_records(self, partition: int) -> int:
        return 2

    def commit(self, links: Mapping[int, Link]) -> None:
        self.committed.append(links)

    def close(self) -> None:
        self.closed = True


class Target:
    """A target that keeps what it was told."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.pending: list[JournalRecord] = []
        self.flushed: list[list[int]] = []
        self.gone: list[int] = []
        self.cut: Kept | None = None

    def assigned(self, partition: int, committed: Link | None) -> Start:
        if self.failures:
            raise self.failures.pop()
        return Start(0, committed, self.cut)

    def dropped(self, partitions: list[int]) -> None:
        self.gone += partitions
        self.pending.clear()

    def add(self, record: JournalRecord) -> int:
        if record.offset == 66:
            raise MalformedRecord("garbled")
        self.pending.append(record)
        return 1

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        if self.failures:
            raise self.failures.pop()
        self.flushed.append([record.offset for record in self.pending])
        self.pending.clear()
        commit({})


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[JournalFeed, Reader, Target]]:
    """Return a function that makes a feed with its doubles."""
    monkeypatch.setattr(journal_feed, "JournalReader", Reader)
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_S", 0.002)

    def make(**policy: Any) -> tuple[JournalFeed, Reader, Target]:
        target = Target()
        limits = {"rows": 10**6, "bytes": 10**9, "delay_s": 600.0, "idle_delay_s": 600.0, **policy}
        made = JournalFeed(
            "cells", JournalSource({}, "journal", "g"), target, FlushPolicy(**limits), SinkMetrics()
        )
        reader = made._reader
        assert isinstance(reader, Reader)
        return made, reader, target

    return make


def records(count: int) -> list[JournalRecord]:
    """Return a genesis and steps."""
    writer = Writer()
    return [writer.genesis(TODAY_US), *(writer.step([cell(TODAY_US)]) for _ in range(count - 1))]


Make = Callable[..., tuple[JournalFeed, Reader, Target]]


@pytest.mark.parametrize(
    ("policy", "flushes"),
    [
        ({"rows": 2}, [[0, 1], [2, 3], [4]]),
        ({"bytes": 1}, [[0], [1], [2], [3], [4]]),
        ({"delay_s": 0.0}, [[0], [1], [2], [3], [4]]),
        ({}, [[0, 1, 2, 3, 4]]),
    ],
)
def test_a_flush_is_due_by_rows_bytes_and_time(
    feed: Make, policy: dict[str, Any], flushes: list[list[int]]
) -> None:
    """Whichever comes first; and once more at the end."""
    made, reader, target = feed(**policy)
    reader.script = [*records(5)]
    made.run(reader.stop)
    assert target.flushed == flushes
    assert reader.closed


def test_records_that_waited_for_a_flush_do_not_wait_again(feed: Make) -> None:
    """The delay counts from the journal once all is taken, else from the first that was taken."""
    made, reader, target = feed(delay_s=20.0)
    now_us = time.time_ns() // 1000
    waited, behind, recent, *later = records(5)
    object.__setattr__(waited, "timestamp_us", now_us - 30_000_000)
    object.__setattr__(behind, "timestamp_us", now_us - 5_000_000)
    for record in (recent, *later):
        object.__setattr__(record, "timestamp_us", now_us)
    reader.script = [waited, behind, recent, *later]
    made.run(reader.stop)
    assert target.flushed == [[0, 1, 2], [3, 4]]


def test_the_clock_alone_waits_longer(feed: Make) -> None:
    """Idle records are stored by their own delay."""
    made, reader, target = feed(delay_s=0.0)
    writer = Writer()
    genesis = writer.genesis(TODAY_US)
    reader.script = [genesis, writer.idle(TODAY_US + 1), writer.idle(TODAY_US + 2)]
    made.run(reader.stop)
    assert target.flushed == [[0], [1, 2]]


def test_what_waits_and_what_was_void_is_told(feed: Make) -> None:
    """Lag in records and seconds, void records once, and what each flush took."""
    made, reader, target = feed(delay_s=0.0)
    reader.script = [*records(3)]
    made.run(reader.stop)
    metrics = made._metrics
    assert metrics.lag_records.labels("cells", 0)._value.get() == 3
    assert metrics.lag_seconds.labels("cells", 0)._value.get() > 0
    assert metrics.void_records.labels("cells", 0)._value.get() == 2
    assert metrics.records.labels("cells", 0)._value.get() == 3
    name = "meterstream_sink_flush_seconds_count"
    assert metrics.registry.get_sample_value(name, {"feed": "cells"}) == len(target.flushed) == 3


def test_a_flush_that_fails_is_tried_again(feed: Make) -> None:
    """The records stay, and the retries are counted."""
    made, reader, target = feed()
    target.failures = [OperationalError("away")] * 3
    reader.script = [*records(2)]
    made.run(reader.stop)
    assert target.flushed == [[0, 1]]
    assert made._metrics.retries.labels("cells")._value.get() == 3


def test_an_outage_that_outlasts_the_stop_loses_nothing(
    feed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed, so it comes again."""
    made, reader, target = feed()
    monkeypatch.setattr(retry, "STOP_PATIENCE_S", 0)
    target.failures = [OperationalError("away")] * 1000
    reader.script = [*records(2)]
    made.run(reader.stop)
    assert reader.committed == []
    assert reader.closed


def test_a_valid_record_that_cannot_be_decoded_stops_it(feed: Make) -> None:
    """The error names the record and what to do."""
    made, reader, _ = feed()
    (genesis,) = records(1)
    object.__setattr__(genesis, "offset", 66)
    reader.script = [genesis]
    with pytest.raises(JournalBroken, match="journal-0, offset 66: the record is valid"):
        made.run(reader.stop)
    assert reader.closed


def test_partitions_that_go_are_flushed_before(feed: Make) -> None:
    """The next owner begins after what is stored."""
    made, reader, target = feed()
    reader.script = [*records(2), lambda: made._revoked([0], True)]
    made.run(reader.stop)
    assert target.flushed == [[0, 1]]
    assert target.gone == [0]


def test_partitions_that_are_lost_or_cannot_be_flushed_are_dropped(feed: Make) -> None:
    """Their records are the next owner's."""
    made, reader, target = feed()

    def fail() -> None:
        target.failures = [OperationalError("away")]
        made._revoked([0], True)

    reader.script = [*records(2), fail, *records(2), lambda: made._revoked([0], False)]
    made.run(reader.stop)
    assert target.gone == [0, 0]
    assert [one for one in target.flushed if one] == []


def test_a_start_is_looked_for_until_kafka_and_clickhouse_answer(feed: Make) -> None:
    """An assignment waits; a cut journal is counted."""
    made, reader, target = feed()
    target.failures = [OperationalError("away")] * 2
    target.cut = Kept(Link(1, 0, 1, 0, 0), 0, UUID(int=1))
    silences = [KafkaException(KafkaError(KafkaError._TIMED_OUT))] * 2

    def committed() -> Link | None:
        if silences:
            raise silences.pop()
        return None

    reader.script = [lambda: starts.append(made._assigned(0, committed))]
    starts: list[Start] = []
    made.run(reader.stop)
    assert [start.cut for start in starts] == [target.cut]
    assert made._metrics.truncations.labels("cells", 0)._value.get() == 1
