"""Catalog and control entries reach each partition from its own position on, none left out."""

import asyncio
from collections.abc import Awaitable, Callable

from confluent_kafka import Producer
from tests.support.services import create_topics

from meterstream.streams.entries import EntriesLost, EntryReader
from meterstream.streams.kafka import Broker
from meterstream.streams.settings import MeterSettings

WAIT_S = 60.0


class Topics:
    """The two topics, written by a test."""

    def __init__(self, kafka: str, prefix: str) -> None:
        create_topics(kafka, prefix, 2)
        self.prefix = prefix
        self.broker = Broker(MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix))
        self._producer = Producer({"bootstrap.servers": kafka})

    def put(self, name: str, *values: str, partition: int = 0) -> None:
        """Write entries."""
        for value in values:
            self._producer.produce(
                self.prefix + name, value, key=value.encode(), partition=partition
            )
        assert self._producer.flush(30) == 0

    def read(self, scenario: Callable[["Reading"], Awaitable[None]]) -> list[BaseException]:
        """Run `scenario` with a reader; return how reading failed."""
        failures: list[BaseException] = []

        async def run() -> None:
            reader = EntryReader(self.broker, self.prefix + "catalog", self.prefix + "control")
            reader.start(failures.append)
            try:
                await scenario(Reading(reader, failures))
            finally:
                await reader.stop()

        asyncio.run(run())
        return failures


class Reading:
    """A reader, and waiting for what it brings."""

    def __init__(self, reader: EntryReader, failures: list[BaseException]) -> None:
        self.reader = reader
        self.failures = failures
        self.calls: list[int] = []

    def register(self, partition: int, catalog: int, control: int) -> None:
        """Register a partition."""
        self.reader.register(partition, catalog, control, lambda: self.calls.append(partition))

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds."""
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, what
            await asyncio.sleep(0.02)

    async def ready(self, *partitions: int) -> None:
        """Wait until both logs of these partitions were read to their ends."""
        await self.until(lambda: all(map(self.reader.is_ready, partitions)), "ready")

    def catalog(self, position: int, limit: int = 100) -> tuple[list[bytes | None], int]:
        """Return the values since `position`, and the position after them."""
        entries, after = self.reader.catalog_since(position, limit)
        return [entry.value for entry in entries], after

    def control(self, partition: int, position: int) -> tuple[list[bytes | None], int]:
        """Return the values since `position`, and the position after them."""
        entries, after = self.reader.control_since(partition, position, 100)
        return [entry.value for entry in entries], after


def test_each_from_its_position(kafka: str, prefix: str) -> None:
    """A partition gets what lies after its position, also if another one was further."""
    topics = Topics(kafka, prefix)
    topics.put("catalog", "a", "b", "c")
    topics.put("control", "x", partition=0)
    topics.put("control", "y", "z", partition=1)

    async def scenario(reading: Reading) -> None:
        assert not reading.reader.is_ready(0)
        assert reading.reader.catalog_age_seconds() is None
        reading.register(0, 2, 0)
        await reading.ready(0)
        assert reading.catalog(2) == ([b"c"], 3)
        assert reading.control(0, 0) == ([b"x"], 1)
        reading.register(1, 0, 1)  # further back: what is kept is read again from there
        await reading.ready(0, 1)
        assert reading.catalog(0, 2) == ([b"a", b"b"], 2)
        assert reading.catalog(2) == ([b"c"], 3)
        assert reading.control(1, 1) == ([b"z"], 2)
        assert (reading.reader.catalog_age_seconds() or 0) < WAIT_S

    assert topics.read(scenario) == []


def test_news(kafka: str, prefix: str) -> None:
    """What arrives later is told to those whom it concerns, and forgotten once all have it."""
    topics = Topics(kafka, prefix)

    async def scenario(reading: Reading) -> None:
        reading.register(0, 0, 0)
        reading.register(1, 0, 0)
        await reading.ready(0, 1)
        reading.calls.clear()
        topics.put("control", "x", partition=1)
        await reading.until(lambda: reading.control(1, 0)[0], "the control entry is here")
        assert set(reading.calls) == {1}
        topics.put("catalog", "a")
        await reading.until(lambda: reading.catalog(0)[0], "the catalog entry is here")
        assert set(reading.calls) == {0, 1}
        reading.reader.taken(0, 1, 0)
        assert reading.catalog(0)[0] == [b"a"]
        reading.reader.taken(1, 1, 1)
        assert reading.catalog(0)[0] == []
        reading.reader.unregister(1)
        assert not reading.reader.is_ready(1)
        reading.register(1, 1, 0)
        await reading.ready(1)
        assert reading.control(1, 0) == ([b"x"], 1)

    assert topics.read(scenario) == []


def test_the_end_is_confirmed(kafka: str, prefix: str) -> None:
    """While nothing arrives the catalog is seen complete again and again."""
    topics = Topics(kafka, prefix)

    async def scenario(reading: Reading) -> None:
        reading.register(0, 0, 0)
        await reading.ready(0)
        first = reading.reader._catalog.complete_at
        await reading.until(
            lambda: reading.reader._catalog.complete_at != first, "it is seen complete once more"
        )

    assert topics.read(scenario) == []


def test_a_log_that_does_not_reach_so_far(kafka: str, prefix: str) -> None:
    """A position beyond the end of the log is a log that was made again: reading fails."""
    topics = Topics(kafka, prefix)

    async def scenario(reading: Reading) -> None:
        reading.register(0, 0, 7)
        await reading.until(lambda: reading.failures, "reading has failed")

    (failure,) = topics.read(scenario)
    assert isinstance(failure, EntriesLost)
    assert "made again" in str(failure)
