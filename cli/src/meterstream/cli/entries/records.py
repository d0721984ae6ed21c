"""Entries as the core takes them, read from their topics."""

from collections.abc import Iterator

from confluent_kafka import Message

from meterstream.cli.connection import Connection
from meterstream.cli.topic_reader import TopicReader, read_topic
from meterstream.schemas.topics import CATALOG, CONTROL
from meterstream.streams.core.batch import Entry


def control_partitions(connection: Connection) -> int:
    """Return how many partitions the control topic has: as many as events, and by the same key."""
    reader = TopicReader(connection, CONTROL)
    try:
        return len(reader.partitions())
    finally:
        reader.close()


def control_entries(
    connection: Connection, partition: int | None = None
) -> Iterator[tuple[int, Entry]]:
    """Yield the partition and entry of all that stands in the control topic, or in one partition.

    Entries come in the order of their offsets within a partition.
    """
    for message in read_topic(connection, CONTROL, partition=partition):
        yield message.partition() or 0, entry_of(message)


def catalog_entries(connection: Connection) -> Iterator[Entry]:
    """Yield all that stands in the catalog topic, in the order of offsets."""
    for message in read_topic(connection, CATALOG):
        yield entry_of(message)


def entry_of(message: Message) -> Entry:
    """Return a record as the core takes it."""
    _, logged_ms = message.timestamp()
    key, value = message.key(), message.value()
    return Entry(
        message.offset() or 0,
        logged_ms * 1000,
        key if isinstance(key, bytes) else None,
        value if isinstance(value, bytes) else None,
    )
