"""The transactions of one slot: records and the position after them, both or neither."""

import contextlib
import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from meterstream.schemas import topics as names
from meterstream.streams.settings import PublisherSettings

from .bounded import Overdue, call_within

log = logging.getLogger("meterstream.publisher")
silent = logging.getLogger("meterstream.publisher.librdkafka")
silent.disabled = True  # what it says comes back as exceptions, and is told with what follows

TRANSACTION_MS: Final = 10_000
"""After this long the broker ends a transaction whose publisher died; until then readers wait."""
CALL_SECONDS: Final = 15.0
SEND_OFFSETS_SECONDS: Final = 5.0
HANGING_SECONDS: Final = 8.0
"""Sending offsets should end after SEND_OFFSETS_SECONDS, but can hang for good where the group's
coordinator was away (librdkafka issue 5456): after this long the producer is given up."""
POLL_RECORDS: Final = 1_000


class Record(NamedTuple):
    """One record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None
    partition: int | None = None
    """Where it goes; None: to the partition of the journal's number."""


class SlotLost(Exception):
    """Another publisher has the slot, or a transaction failed: take it anew, or leave it."""


class ProducerHangs(SlotLost):
    """The group's coordinator went away under a call; that of other slots hangs as well."""


class Transactions:
    """Writes what one partition of the journal decided.

    The transactional id belongs to the partition, so a publisher that takes it over ends whatever
    its predecessor left open. Raises SlotLost if Kafka refuses that.
    """

    def __init__(self, settings: PublisherSettings, partition: int, consumer: Consumer) -> None:
        self._partition = partition
        self._consumer = consumer
        self._is_hanging = False
        self._producer = Producer(
            settings.client(
                transactional_id=f"{settings.group_id(settings.publisher_group)}-{partition}",
                transaction_timeout_ms=TRANSACTION_MS,
                message_timeout_ms=TRANSACTION_MS,
                linger_ms=5,
                compression_type="lz4",
                batch_size=names.LEAST_MESSAGE_BYTES // 2,
            ),
            logger=silent,
        )
        try:
            # Fences the predecessor first: what is committed after this, we commit.
            self._producer.init_transactions(CALL_SECONDS)
        except KafkaException as failure:
            raise SlotLost(str(failure.args[0].str())) from None

    def write(self, records: Iterable[Record], position: TopicPartition) -> None:
        """Write records to their partitions, and the position after them."""
        try:
            # 1. Whatever follows belongs together.
            self._producer.begin_transaction()
            # 2. The records, not visible yet, in their order.
            for number, record in enumerate(records):
                self._produce(record)
                if number % POLL_RECORDS == 0:
                    self._producer.poll(0)
            # 3. The position after them, with the link that makes the next record provable. The
            #    group's generation goes with it, so a publisher that lost its partition fails.
            call_within(
                HANGING_SECONDS,
                self._producer.send_offsets_to_transaction,
                [position],
                self._consumer.consumer_group_metadata(),
                SEND_OFFSETS_SECONDS,
            )
            # 4. Both become true at once.
            self._producer.commit_transaction(CALL_SECONDS)
        except KafkaException as failure:
            self._abort(failure.args[0])
        except Overdue as hanging:
            # The next producer of this transactional id ends what this one has begun.
            self._is_hanging = True
            raise ProducerHangs(f"sending its position to Kafka hangs ({hanging})") from None

    def _produce(self, record: Record) -> None:
        options: dict[str, Any] = {} if record.headers is None else {"headers": record.headers}
        partition = self._partition if record.partition is None else record.partition
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, partition, **options)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _abort(self, error: KafkaError) -> None:
        if error.txn_requires_abort():
            try:
                self._producer.abort_transaction(CALL_SECONDS)
            except KafkaException as failure:
                log.debug("partition %d: abort: %s", self._partition, failure)
        raise SlotLost(error.str())

    def close(self) -> None:
        """Drop the producer; nothing is open between calls."""
        if self._is_hanging:
            return
        with contextlib.suppress(KafkaException):  # a producer that was fenced refuses even this
            self._producer.purge()
            self._producer.flush(1.0)
