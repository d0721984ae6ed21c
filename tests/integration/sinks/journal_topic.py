"""A journal topic on a real broker, into which tests write records by hand."""

from collections.abc import Sequence
from uuid import UUID

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.waiting import eventually

from meterstream.schemas.journal import HEADER_KEY
from meterstream.sinks.event_ranges import EventRanges
from meterstream.sinks.record import JournalRecord


def create_topics(bootstrap: str, prefix: str, *names: str, partitions: int = 1) -> None:
    """Create topics with log append time, as `meterstream topics` does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(16 * 1024 * 1024)}
    topics = [
        NewTopic(prefix + name, num_partitions=partitions, replication_factor=1, config=config)
        for name in names
    ]
    for created in admin.create_topics(topics).values():
        created.result(30)


def make_anew(bootstrap: str, prefix: str, name: str) -> None:
    """Delete a topic and create it again, empty."""
    admin, topic = AdminClient({"bootstrap.servers": bootstrap}), prefix + name
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=30).topics, 30, "the topic gone")
    create_topics(bootstrap, prefix, name)


def delete_before(bootstrap: str, topic: str, offset: int) -> None:
    """Remove the records before `offset`, as retention does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(30)


def topic_id(bootstrap: str, topic: str) -> UUID:
    """Return the id that the broker gave `topic`."""
    return EventRanges({"bootstrap.servers": bootstrap}, topic).topic_id()


class JournalTopic:
    """Writes records to a journal topic; they must land at the offsets that they were made for."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.topic = prefix + "journal"
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "consistent",
                "linger.ms": 0,
                "message.max.bytes": 16 * 1024 * 1024,
            }
        )

    def write(self, *records: JournalRecord, check: bool = True) -> None:
        """Write `records` in order and wait for their acknowledgements."""
        landed: list[int | None] = []
        for record in records:
            self._producer.produce(
                self.topic,
                value=record.value,
                partition=record.partition,
                headers=[(HEADER_KEY, record.header.pack())],
                on_delivery=lambda error, message: landed.append(message.offset()),
            )
        assert self._producer.flush(30) == 0
        if check:
            assert landed == [record.offset for record in records]

    def write_raw(self, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Write a record that the meter would not write."""
        self._producer.produce(self.topic, value=value, partition=0, headers=list(headers))
        assert self._producer.flush(30) == 0
