"""One partition that is metered step by step, with real topics underneath."""

import asyncio
import time

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from meterstream.streams.core import (
    EventBatch,
    PartitionState,
    Policy,
    Step,
    apply_step,
    begin,
    compute_step,
    take_snapshot,
)
from meterstream.streams.journal import JournalWriter, RecordWriter
from meterstream.streams.journal.genesis import first_generation
from meterstream.streams.journal.restore import Restored, Topics, restore
from meterstream.streams.journal.snapshots import Catalogue, StoredSnapshot, write_snapshot
from meterstream.streams.kafka import Broker, timestamp_us
from meterstream.streams.meter import look_up_topics
from meterstream.streams.settings import MeterSettings

from .craft import Json, encode, run

POLICY = Policy(partitions=1)


def now_us() -> int:
    """Return the time, microseconds since 1970."""
    return time.time_ns() // 1000


class MeteredPartition:
    """One partition that is metered step by step, with real topics underneath."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.settings = MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
        self.broker = Broker(self.settings)
        self.topics, _ = look_up_topics(self.broker, self.settings)
        self.records = RecordWriter(self.settings)
        self.writer = JournalWriter(self.records, self.topics.journal)
        self.catalogue = Catalogue()
        self.producer = Producer({"bootstrap.servers": kafka})
        self.sent = 0
        genesis = first_generation(self.broker, self.topics, POLICY, None, 0)
        offset, at_us = self.append(genesis)
        self.state = begin(POLICY, 0, offset, at_us, genesis)

    def append(self, step: Step) -> tuple[int, int]:
        """Write a step's record; return its offset and log time."""
        done = asyncio.run(self.writer.append(0, step.header.pack(), step.value))
        return done.offset, done.timestamp_us

    def take(self, step: Step) -> None:
        """Write a step and apply it."""
        apply_step(self.state, step, *self.append(step))

    def send(self, count: int) -> EventBatch:
        """Send runs that end now; return them as they stand in the log."""
        first = self.sent
        self.sent += count
        return self.publish(*(run(f"e-{number}", now_us()) for number in range(first, self.sent)))

    def publish(self, *events: Json) -> EventBatch:
        """Send events; return them as they stand in the log."""
        delivered: list[tuple[int, int, bytes | None]] = []
        for event in events:
            value = encode(event)
            self.producer.produce(
                self.topics.events,
                value,
                partition=0,
                on_delivery=lambda _, m: delivered.append(
                    (m.offset() or 0, timestamp_us(m), m.value())
                ),
            )
        assert self.producer.flush(30) == 0
        offsets, times, values = zip(*delivered, strict=True)
        return EventBatch(offsets[0], offsets[-1] + 1, offsets, times, values)

    def count(self, events: int) -> None:
        """Send events and decide them."""
        batch = self.send(events)
        self.take(compute_step(self.state, batch, now_us=batch.log_times_us[-1]))

    def decide(self, *events: Json) -> None:
        """Send these events and decide them."""
        batch = self.publish(*events)
        self.take(compute_step(self.state, batch, now_us=batch.log_times_us[-1]))

    def snapshot(self, part_bytes: int = 2_000) -> int:
        """Store a snapshot; return the bytes that were new."""
        taken = take_snapshot(self.state)
        stored = StoredSnapshot(
            self.state.generation, self.state.link.prev, taken.manifest, taken.segments
        )
        return asyncio.run(
            write_snapshot(
                self.records, self.topics.snapshots, 0, self.catalogue, stored, part_bytes
            )
        )

    def restored(self, topics: Topics | None = None) -> Restored:
        """Restore the partition from what is on the broker."""
        return restore(self.broker, topics or self.topics, POLICY, 0)

    def state_again(self) -> PartitionState:
        """Restore the partition, and return its state."""
        state = self.restored().state
        assert state is not None
        return state

    def forget(self, name: str, before: int) -> None:
        """Remove the beginning of a log."""
        admin = AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap})
        topic = self.settings.topic(name)
        asked = admin.delete_records([TopicPartition(topic, 0, before)])
        for deleted in asked.values():
            deleted.result(30)


def same(left: PartitionState, right: PartitionState) -> bool:
    """Whether two states hold the same, as far as a snapshot tells."""
    return take_snapshot(left) == take_snapshot(right)
