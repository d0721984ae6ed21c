"""Dead letters as they stand in the topic, oldest first in each partition."""

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from meterstream.cli.connection import Connection
from meterstream.cli.errors import BadInput, Unreachable
from meterstream.schemas import deadletters as headers
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import DLQ
from meterstream.streams.refusal import Refusal

ANSWER_TIMEOUT_S: Final = 10.0
SILENCE_MAX_S: Final = 30.0
BATCH: Final = 1_000
WAIT_S: Final = 0.2
"""A batch that is not full is not waited for longer."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: where it lies, when it came there, what it says and the refused bytes."""

    partition: int
    offset: int
    written_at: datetime
    headers: dict[str, str]
    key: bytes | None
    value: bytes

    @property
    def place(self) -> str:
        """Its coordinates in the dead-letter topic, as `dlq show` takes them."""
        return f"{self.partition}:{self.offset}"

    @property
    def reason(self) -> str:
        """The one reason for which it is here."""
        return self.headers.get(headers.REASON, "")

    @property
    def came_from(self) -> str:
        """The coordinates of the refused record: topic/partition/offset."""
        names = (headers.TOPIC, headers.PARTITION, headers.OFFSET)
        return "/".join(self.headers.get(name, "?") for name in names)


def read_letters(
    connection: Connection, *, partition: int | None = None, from_offset: int = OFFSET_BEGINNING
) -> Generator[Letter, None, None]:
    """Read what stands in the dead-letter topic now, all of it or one partition.

    Raises Unreachable where the topic is missing or the broker stops answering.
    """
    topic = connection.topic(DLQ)
    refusal = Refusal(connection.bootstrap)
    consumer = Consumer(
        {
            **connection.kafka(),
            "error_cb": refusal.hear,
            "group.id": "meterstream-cli",  # asked for by the client, and never joined
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "isolation.level": "read_committed",
        },
        logger=logging.getLogger("meterstream.kafka"),
    )
    try:
        numbers = _partitions(consumer, topic)
        if partition is not None:
            if partition not in numbers:
                raise BadInput(f"{topic} has no partition {partition}, only 0 to {numbers[-1]}")
            numbers = [partition]
        consumer.assign([TopicPartition(topic, number, from_offset) for number in numbers])
        left = set(numbers)
        heard = time.monotonic()
        while left:
            messages = consumer.consume(BATCH, WAIT_S)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_MAX_S:
                raise Unreachable(f"{topic} cannot be read: no answer within {SILENCE_MAX_S:.0f} s")
            for message in messages:
                error = message.error()
                if error is None:
                    yield _letter(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                else:
                    raise Unreachable(f"{topic} cannot be read: {error.str()}")
    except KafkaException as error:
        consumer.poll(0)
        raise Unreachable(
            refusal.or_else(f"{topic} cannot be read: {error.args[0].str()}")
        ) from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    found = consumer.list_topics(topic, timeout=ANSWER_TIMEOUT_S).topics[topic]
    if found.error is not None:
        raise Unreachable(f"{topic}: {found.error.str()}. `meterstream topics` makes it")
    return sorted(found.partitions)


def _letter(message: Message) -> Letter:
    _, written_ms = message.timestamp()
    key, value = message.key(), message.value()
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    texts = {name: (text or b"").decode("utf-8", "replace") for name, text in pairs}
    return Letter(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        written_at=from_us(max(written_ms, 0) * 1000),
        headers=texts,
        key=key if isinstance(key, bytes) else None,
        value=value if isinstance(value, bytes) else b"",
    )
