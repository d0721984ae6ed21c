"""The dead-letter list: notifications that were given up, until they are delivered after all.

One record for each, keyed by the id of its delivery, in a compacted topic of one partition. The
same key with no value takes it off the list; so what is written twice stands there once.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from meterstream.schemas.fields import Time
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import ThresholdEvent
from meterstream.schemas.topics import NOTIFICATIONS_DLQ, THRESHOLDS

from .errors import KafkaUnavailable
from .kafka import TIMEOUT_S, Refusals
from .parcel import Kind, Notice
from .settings import NotifierSettings

SILENCE_MAX_S: Final = 30.0
BATCH: Final = 500
WAIT_S: Final = 0.2

log = logging.getLogger(__name__)


class DeadNotification(BaseModel):
    """One notification that was given up: all that is needed to see why, and to try again."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    delivery_id: str
    destination: str
    kind: Kind
    event_id: str
    attempts: int
    first_attempt_at: Time
    given_up_at: Time
    error: str
    recipients: tuple[str, ...] = ()
    """Who has not got it, of an email to several addresses; nobody named means all."""
    event: str
    """The event's JSON as it stood in the topic."""

    def notice(self) -> Notice:
        """Return it as it was to be delivered. Raises InvalidEvent where the event is not read."""
        value = self.event.encode()
        event = parse_event(value, THRESHOLDS)
        assert isinstance(event, ThresholdEvent)
        return Notice(self.delivery_id, event, value)


class DeadLetters:
    """Writes the list. Any thread may."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._topic = settings.topic(NOTIFICATIONS_DLQ)
        self._lock = threading.Lock()
        self._producer = Producer(
            settings.client(acks="all", enable_idempotence=True, linger_ms=0)
            | {"error_cb": Refusals(settings.kafka_bootstrap)}
        )

    def add(self, letter: DeadNotification) -> None:
        """Put a notification on the list; KafkaUnavailable if the broker does not confirm it."""
        self._write(letter.delivery_id, letter.model_dump_json().encode())

    def remove(self, delivery_id: str) -> None:
        """Take a notification off the list; KafkaUnavailable if the broker does not confirm it."""
        self._write(delivery_id, None)

    def _write(self, key: str, value: bytes | None) -> None:
        outcome: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            outcome.append(error)

        with self._lock:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=on_delivery)
                self._producer.flush(TIMEOUT_S)
            except (KafkaException, BufferError) as error:
                raise KafkaUnavailable(f"{self._topic} cannot be written: {error}") from error
            if not outcome:
                self._producer.purge()
                self._producer.flush(TIMEOUT_S)
        if outcome[:1] != [None]:
            reason = outcome[0].str() if outcome and outcome[0] else "no answer"
            raise KafkaUnavailable(f"{self._topic} cannot be written: {reason}")


def read_dead(settings: NotifierSettings) -> list[DeadNotification]:
    """Return what stands on the list now, the oldest first.

    Raises KafkaUnavailable where the topic is missing or the broker stops answering.
    """
    topic, refusals = settings.topic(NOTIFICATIONS_DLQ), Refusals(settings.kafka_bootstrap)
    consumer = Consumer(
        settings.client(
            group_id="meterstream-cli",  # asked for by the client, and never joined
            enable_auto_commit=False,
            enable_partition_eof=True,
        )
        | {"error_cb": refusals}
    )
    found: dict[str, DeadNotification] = {}
    try:
        metadata = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if metadata.error is not None:
            raise KafkaUnavailable(
                f"{topic}: {metadata.error.str()}. `meterstream topics` makes it"
            )
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        _read_to_end(consumer, topic, lambda message: _take(found, message))
    except KafkaException as error:
        consumer.poll(0)
        raise KafkaUnavailable(
            refusals.or_else(f"{topic} cannot be read: {error.args[0].str()}")
        ) from error
    finally:
        consumer.close()
    return list(found.values())


def _read_to_end(consumer: Consumer, topic: str, take: Callable[[Message], None]) -> None:
    heard = time.monotonic()
    while True:
        messages = consumer.consume(BATCH, WAIT_S)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_MAX_S:
            raise KafkaUnavailable(f"{topic} cannot be read: no answer")
        for message in messages:
            error = message.error()
            if error is None:
                take(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                return
            elif not error.retriable():
                raise KafkaUnavailable(f"{topic} cannot be read: {error.str()}")


def _take(found: dict[str, DeadNotification], message: Message) -> None:
    key, value = message.key(), message.value()
    name = key.decode(errors="replace") if isinstance(key, bytes) else ""
    found.pop(name, None)  # so that the order is that of the newest record of each
    if isinstance(value, bytes):
        try:
            found[name] = DeadNotification.model_validate_json(value)
        except ValidationError:
            log.warning("record %d of the dead-letter list cannot be read", message.offset() or 0)
