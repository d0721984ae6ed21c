"""Reads ranges of the events topic, of several partitions at once."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from meterstream.schemas.kafka_errors import UNREADABLE

from .errors import JournalBroken
from .log_reader import TIMEOUT_S, is_passing
from .start import place_of

_BATCH: Final = 1_000

log = logging.getLogger(__name__)


class EventRanges:
    """A consumer of the events topic that is assigned what it is to read. It keeps no group."""

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._admin = AdminClient(dict(config))
        self._consumer = Consumer(
            {
                **config,
                "group.id": "meterstream-sink-events",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                # Where retention has passed the start, reading goes on with what is left.
                "auto.offset.reset": "earliest",
                # Behind a batch whose check fails the client loses its place, and takes bytes of
                # the next ones for batches. What was counted is compared with its charge instead.
                "check.crcs": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 32 * 1024,
            }
        )

    def topic_id(self) -> UUID:
        """Return the id that the broker gave the topic when it was created."""
        found = self._admin.describe_topics(
            TopicCollection([self._topic]), request_timeout=TIMEOUT_S
        )[self._topic].result()
        high = found.topic_id.get_most_significant_bits() & (2**64 - 1)
        low = found.topic_id.get_least_significant_bits() & (2**64 - 1)
        return UUID(int=high << 64 | low)

    def read(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[Message]:
        """Yield the events from start to end (exclusive) of each partition in `ranges`.

        They come in order within a partition; offsets that the log does not have are left out, and
        those that the client cannot read. Raises TimeoutError if Kafka does not go on for a while.
        """
        open_ends = {number: end for number, (start, end) in ranges.items() if start < end}
        if not open_ends:
            return
        self._consumer.assign(
            [TopicPartition(self._topic, number, ranges[number][0]) for number in open_ends]
        )
        next_offsets = {number: ranges[number][0] for number in open_ends}
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while open_ends:
                for message in self._consumer.consume(_BATCH, timeout=0.02):
                    deadline = time.monotonic() + TIMEOUT_S
                    error = message.error()
                    if error is None:
                        next_offsets[place_of(message)[0]] = place_of(message)[1] + 1
                        yield from self._within(message, open_ends)
                    elif error.name() in UNREADABLE:
                        self._pass_over(message, next_offsets, open_ends)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        # The log ends in markers of transactions, or retention took all of it.
                        self._close(place_of(message)[0], open_ends)
                    elif not is_passing(error):
                        raise JournalBroken(f"topic {self._topic} cannot be read: {error.str()}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Kafka does not deliver {self._topic}: {open_ends}")
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _within(self, message: Message, open_ends: dict[int, int]) -> Iterator[Message]:
        partition, offset = place_of(message)
        end = open_ends.get(partition)
        if end is None:
            return
        if offset < end:
            yield message
        if offset >= end - 1:
            self._close(partition, open_ends)

    def _pass_over(
        self, message: Message, next_offsets: dict[int, int], open_ends: dict[int, int]
    ) -> None:
        """Go on behind an event that the client cannot read: it gives the same again."""
        partition, offset = place_of(message)
        offset = max(offset, next_offsets[partition])
        end = open_ends.get(partition)
        if end is None:
            return
        error = message.error()
        assert error is not None, "it tells why"
        log.error("%s-%d, offset %d is damaged: %s", self._topic, partition, offset, error.str())
        next_offsets[partition] = offset + 1
        if offset + 1 >= end:
            self._close(partition, open_ends)
        else:
            self._consumer.seek(TopicPartition(self._topic, partition, offset + 1))

    def _close(self, partition: int, open_ends: dict[int, int]) -> None:
        if open_ends.pop(partition, None) is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
