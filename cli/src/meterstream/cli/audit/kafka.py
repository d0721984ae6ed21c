"""Reads what the audit needs from Kafka: bounds, topic ids and the dead letters.

Consumers are assigned to partitions and belong to no group.
"""

import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import AdminClient

from meterstream.cli.errors import CheckFailed, Unreachable
from meterstream.cli.log_bounds import log_bounds
from meterstream.streams.refusal import Refusal

from .dead_letters import Letter, parse_letter
from .scope import Bounds

ANSWER_S: Final = 15.0
"""How long a broker may be silent before it counts as not there."""
POLL_S: Final = 0.2
BATCH: Final = 200


class Broker:
    """The logs of one Kafka cluster."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._address = settings["bootstrap.servers"]
        self._refusal = Refusal(self._address)
        self._settings: dict[str, Any] = {
            **settings,
            "log_level": 0,
            "error_cb": self._refusal.hear,
        }
        self.settings = settings
        self._admin = AdminClient(self._settings)

    def topic(self, name: str) -> tuple[UUID, int]:
        """Return a topic's id and how many partitions it has.

        Raises Unreachable if no broker answers, CheckFailed if there is no such topic.
        """
        future = self._admin.describe_topics(TopicCollection([name]), request_timeout=ANSWER_S)
        try:
            found = future[name].result()
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise CheckFailed(
                    f"topic {name} does not exist: create it with `meterstream topics`"
                ) from None
            raise self.unreachable(error.str()) from None
        high = found.topic_id.get_most_significant_bits() & (2**64 - 1)
        low = found.topic_id.get_least_significant_bits() & (2**64 - 1)
        return UUID(int=high << 64 | low), len(found.partitions)

    def bounds(self, topic: str, partitions: int) -> list[Bounds]:
        """Return the bounds of each partition's log; the end is that of committed records."""
        consumer = self.consumer()
        try:
            return [self._bounds(consumer, topic, number) for number in range(partitions)]
        finally:
            consumer.close()

    def bounds_of(self, topic: str, partition: int) -> Bounds:
        """Return the bounds of one partition's log."""
        consumer = self.consumer()
        try:
            return self._bounds(consumer, topic, partition)
        finally:
            consumer.close()

    def _bounds(self, consumer: Consumer, topic: str, partition: int) -> Bounds:
        try:
            found = log_bounds(consumer, At(topic, partition), ANSWER_S)
        except KafkaException as failure:
            raise self.unreachable(failure.args[0].str()) from None
        if found is None:
            raise self.unreachable("no answer")
        return Bounds(int(found[0]), int(found[1]))

    def consumer(self) -> Consumer:
        """Return a consumer to assign partitions to."""
        return Consumer(
            {
                **self._settings,
                "group.id": "meterstream-audit",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.message.max.bytes": 4 * 1024 * 1024,
                "queued.max.messages.kbytes": 32 * 1024,
            }
        )

    def unreachable(self, reason: str) -> Unreachable:
        """Return the error that says that no broker answers."""
        self._admin.poll(0)
        return Unreachable(
            self._refusal.or_else(
                f"no Kafka broker answers at {self._address} ({reason}): start one with"
                " `meterstream stack`, or set METERSTREAM_KAFKA_BOOTSTRAP"
            )
        )


class _Reader:
    """Reads assigned partitions and notices a broker that has gone."""

    def __init__(self, broker: Broker, places: list[At]) -> None:
        self._broker = broker
        self._consumer = broker.consumer()
        self._consumer.assign(places)
        self._heard = time.monotonic()

    def poll(self, *, may_be_silent: bool) -> list[Message]:
        """Return what has arrived, ends of partitions among it; nothing after POLL_S.

        Raises Unreachable if nothing comes for a while, unless that is to be expected.
        """
        messages = self._consumer.consume(BATCH, POLL_S)
        now = time.monotonic()
        if may_be_silent or any(_is_answer(message.error()) for message in messages):
            self._heard = now
        if now - self._heard > ANSWER_S:
            raise self._broker.unreachable("no answer")
        return messages

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class DeadLetterLog:
    """The dead-letter topic, from its beginning."""

    def __init__(self, broker: Broker, topic: str, bounds: list[Bounds]) -> None:
        self._bounds = bounds
        self._reader = _Reader(
            broker, [At(topic, number, each.start) for number, each in enumerate(bounds)]
        )
        self._at_end: set[int] = set()
        self._first_us: int | None = None
        self.nameless = 0
        """Records without the coordinates of what was refused."""

    def read(self) -> list[Letter]:
        """Return the letters that were not returned before, up to the end of the log for now."""
        found: list[Letter] = []
        while True:
            everywhere = len(self._at_end) == len(self._bounds)
            messages = self._reader.poll(may_be_silent=everywhere)
            for message in messages:
                self._take(message, found)
            if not messages and everywhere:
                return found

    def first_time_us(self) -> int | None:
        """Return the log time of the first record still there if others are gone, else None."""
        return self._first_us if any(each.start for each in self._bounds) else None

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()

    def _take(self, message: Message, found: list[Letter]) -> None:
        error, partition = message.error(), message.partition()
        assert partition is not None, "a message is of a partition"
        if error is not None:
            if _is_end(error):
                self._at_end.add(partition)
            return
        self._at_end.discard(partition)
        time_us = int(message.timestamp()[1]) * 1000
        self._first_us = time_us if self._first_us is None else min(self._first_us, time_us)
        letter = parse_letter(dict(message.headers() or ()))
        if letter is None:
            self.nameless += 1
        else:
            found.append(letter)


def _is_answer(error: KafkaError | None) -> bool:
    return error is None or _is_end(error)


def _is_end(error: KafkaError) -> bool:
    return bool(error.code() == KafkaError._PARTITION_EOF)
