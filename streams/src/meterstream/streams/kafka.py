"""What the runtime asks of a broker beside reading and writing: ids of topics, ends of logs."""

import logging
import time
from typing import Any, Final
from uuid import UUID

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from meterstream.schemas.kafka_errors import UNREADABLE

from .refusal import Refusal
from .settings import KafkaSettings

log = logging.getLogger("meterstream.kafka")

TIMEOUT_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 0.2


class BrokerUnavailable(Exception):
    """Kafka did not answer in time. Trying again may help."""


class TopicMissing(Exception):
    """A topic that must be there is not. The message says how to create it."""


class TopicsMisset(Exception):
    """The topics do not fit together. The message says which, and what mends it."""


class NotAllowed(Exception):
    """Kafka does not answer this user's question."""


class Broker:
    """Questions to Kafka that block until they are answered: not for the event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._refusal = Refusal(settings.kafka_bootstrap)
        self._admin = AdminClient(settings.client() | {"error_cb": self._refusal.hear})

    def consumer(self, **options: Any) -> Consumer:
        """Return a consumer that belongs to no group and reads what it is assigned."""
        defaults = {
            "group_id": self.settings.topic("internal"),
            "enable_auto_commit": False,
            "enable_auto_offset_store": False,
            "enable_partition_eof": True,
            "auto_offset_reset": "error",
        }
        return Consumer(self.settings.client(**(defaults | options)))

    def topic_id(self, topic: str) -> UUID:
        """Return the id the broker gave `topic` when it was created; TopicMissing if it is not."""
        return self._describe(topic)[0]

    def partitions(self, topic: str) -> int:
        """Return how many partitions `topic` has."""
        return self._describe(topic)[1]

    def setting(self, topic: str, name: str) -> str:
        """Return one setting of `topic`; NotAllowed if this user may not look at them."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        future = self._admin.describe_configs([resource], request_timeout=TIMEOUT_SECONDS)[resource]
        try:
            return str(future.result()[name].value)
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise NotAllowed(error.str()) from None
            raise self._unavailable(f"the settings of topic {topic}: {error.str()}") from None

    def _describe(self, topic: str) -> tuple[UUID, int]:
        future = self._admin.describe_topics(
            TopicCollection([topic]), request_timeout=TIMEOUT_SECONDS
        )[topic]
        try:
            found = future.result()
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(
                    f"topic {topic} does not exist: create it with `meterstream topics`"
                ) from None
            raise self._unavailable(
                f"about topic {topic}: {error.str()}. Is METERSTREAM_KAFKA_BOOTSTRAP right, and"
                " does it run?"
            ) from None
        high = found.topic_id.get_most_significant_bits() & (2**64 - 1)
        low = found.topic_id.get_least_significant_bits() & (2**64 - 1)
        return UUID(int=high << 64 | low), len(found.partitions)

    def _unavailable(self, what: str) -> BrokerUnavailable:
        self._admin.poll(0)
        return BrokerUnavailable(
            self._refusal.or_else(f"Kafka at {self.settings.kafka_bootstrap} does not tell {what}")
        )


def log_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the offset of the first record that the log still has, and the one past its last.

    With read_committed the end is the last stable offset.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            bounds = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=left, cached=False
            )
        except KafkaException as failure:
            # A leader that moves, or a topic that was just made: both pass.
            reason = failure.args[0].str()
            time.sleep(RETRY_SECONDS)
        else:
            if bounds is not None:
                return int(bounds[0]), int(bounds[1])
    raise BrokerUnavailable(f"the bounds of {topic}-{partition} cannot be read: {reason}")


def read_at(consumer: Consumer, topic: str, partition: int, offset: int) -> Message | None:
    """Return the record at `offset`, or None if there is no record at exactly that offset.

    One that is UNREADABLE comes as the client's error.
    """
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                return message if message.offset() == offset else None
            if error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                return None
            if error.name() in UNREADABLE:
                return message
            log.debug("reading %s-%d at %d: %s", topic, partition, offset, error.str())
    finally:
        consumer.unassign()
    raise BrokerUnavailable(f"{topic}-{partition} cannot be read at offset {offset}: no answer")


def read_some(consumer: Consumer, limit: int, timeout_seconds: float) -> list[Message]:
    """Return up to `limit` messages as soon as there is one, none after `timeout_seconds`.

    Consumer.consume would wait for `limit` messages until the time is over.
    """
    first = consumer.poll(timeout_seconds)
    return [] if first is None else [first, *consumer.consume(limit - 1, 0)]


def timestamp_us(message: Message) -> int:
    """Return a record's timestamp in microseconds since 1970."""
    return int(message.timestamp()[1]) * 1000
