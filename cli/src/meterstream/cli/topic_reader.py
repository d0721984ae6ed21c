"""What stands in a topic now, oldest first in each partition."""

import logging
import time
from collections.abc import Generator
from typing import Final

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
from meterstream.cli.log_bounds import log_bounds
from meterstream.streams.refusal import Refusal

ANSWER_TIMEOUT_S: Final = 10.0
SILENCE_MAX_S: Final = 30.0
BATCH: Final = 1_000
WAIT_S: Final = 0.2
"""A batch that is not full is not waited for longer."""
RIGHTS: Final = "docs/operations.md names the rights that each user needs"


class TopicReader:
    """A consumer of one topic that belongs to no group, and whose errors a user understands."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.topic = connection.topic(name)
        self._refusal = Refusal(connection.bootstrap)
        self._bootstrap = connection.bootstrap
        self.consumer = Consumer(
            {
                **connection.kafka(),
                "error_cb": self._refusal.hear,
                "group.id": "meterstream-cli",  # asked for by the client, and never joined
                "enable.auto.commit": "false",
                "enable.partition.eof": "true",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": "100",
            },
            logger=logging.getLogger("meterstream.kafka"),
        )

    def close(self) -> None:
        """Leave the broker."""
        self.consumer.close()

    def partitions(self) -> list[int]:
        """Return the topic's partitions; Unreachable where there is no such topic or broker."""
        try:
            found = self.consumer.list_topics(self.topic, timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise self.unreadable(error.args[0]) from error
        topic = found.topics[self.topic]
        if topic.error is not None:
            raise self.unreadable(topic.error)
        return sorted(topic.partitions)

    def end(self, partition: int) -> int:
        """Return the offset after the last record that is there."""
        try:
            place = TopicPartition(self.topic, partition)
            bounds = log_bounds(self.consumer, place, ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise self.unreadable(error.args[0]) from error
        if bounds is None:
            raise Unreachable(f"{self.topic} cannot be read: no answer")
        return int(bounds[1])

    def unreadable(self, error: KafkaError) -> Unreachable:
        """Return what a user is told of an error, with advice."""
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return Unreachable(f"{self.topic}: {error.str()}. `meterstream topics` makes it")
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return Unreachable(f"{self.topic}: this user may not read it; {RIGHTS}")
        self.consumer.poll(0)  # what a broker said to our credentials is heard now
        advice = "start one with `meterstream stack`, or set METERSTREAM_KAFKA_BOOTSTRAP"
        said = f"{self.topic} cannot be read at {self._bootstrap}: {error.str()}"
        return Unreachable(self._refusal.or_else(f"{said} ({advice})"))


def read_topic(
    connection: Connection,
    name: str,
    *,
    partition: int | None = None,
    from_offset: int = OFFSET_BEGINNING,
) -> Generator[Message, None, None]:
    """Read what stands in one of our topics now, all of it or one partition.

    Raises Unreachable where the topic is missing or the broker stops answering.
    """
    reader = TopicReader(connection, name)
    try:
        numbers = reader.partitions()
        if partition is not None:
            if partition not in numbers:
                raise BadInput(
                    f"{reader.topic} has no partition {partition}, only 0 to {numbers[-1]}"
                )
            numbers = [partition]
        consumer = reader.consumer
        consumer.assign([TopicPartition(reader.topic, number, from_offset) for number in numbers])
        left = set(numbers)
        heard = time.monotonic()
        while left:
            messages = consumer.consume(BATCH, WAIT_S)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_MAX_S:
                raise Unreachable(
                    f"{reader.topic} cannot be read: no answer within {SILENCE_MAX_S:.0f} s"
                )
            for message in messages:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                else:
                    raise reader.unreadable(error)
    except KafkaException as error:
        raise reader.unreadable(error.args[0]) from error
    finally:
        reader.close()
