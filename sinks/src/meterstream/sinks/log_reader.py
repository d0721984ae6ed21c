"""Reads single records and ranges of a Kafka log by offset, without any consumer group."""

import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from meterstream.schemas.kafka_errors import UNREADABLE

from .errors import JournalBroken

TIMEOUT_S: Final = 30.0
_BATCH: Final = 1_000

_ENDED: Final = frozenset(
    {
        KafkaError._PARTITION_EOF,
        KafkaError._AUTO_OFFSET_RESET,  # retention removed it in this moment
    }
)
_PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError._MAX_POLL_EXCEEDED,
    }
)


def is_passing(error: KafkaError) -> bool:
    """Tell whether the client mends `error` by itself, or is told of it for its information."""
    return not error.fatal() and (error.retriable() or error.code() in _PASSING)


def log_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """Return the first offset that the log still has, and the one past its last.

    Raises TimeoutError if Kafka does not tell, KafkaException if it cannot.
    """
    found = consumer.get_watermark_offsets(
        TopicPartition(topic, partition), timeout=TIMEOUT_S, cached=False
    )
    if found is None:
        raise TimeoutError(f"Kafka does not tell the bounds of {topic}-{partition}")
    low, high = found
    return int(low), int(high)


class LogReader:
    """A consumer that reads what it is told to. It belongs to one thread."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._consumer = Consumer(
            {
                **config,
                "group.id": "meterstream-sink-log-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
            }
        )

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset that the log still has, and the one past its last."""
        return log_bounds(self._consumer, topic, partition)

    def at(self, topic: str, partition: int, offset: int) -> Message | None:
        """Return the record at `offset`, or None if there is none at exactly that offset.

        One that is UNREADABLE comes as the client's error.
        """
        return next(self.between(topic, partition, offset, offset + 1), None)

    def between(self, topic: str, partition: int, start: int, end: int) -> Iterator[Message]:
        """Yield the records from `start` to `end` (exclusive) that the log has, in order.

        They end at the first that is UNREADABLE, which comes as the client's error.
        Raises TimeoutError if Kafka does not go on for a while.
        """
        low, high = self.bounds(topic, partition)
        position, end = max(start, low), min(end, high)
        if position >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, position)])
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while position < end:
                messages = self._consumer.consume(min(_BATCH, end - position), timeout=0.05)
                if messages:
                    deadline = time.monotonic() + TIMEOUT_S
                elif time.monotonic() > deadline:
                    raise TimeoutError(
                        f"Kafka does not deliver {topic}-{partition} from offset {position}"
                    )
                for message in messages:
                    error = message.error()
                    if error is None:
                        position = (message.offset() or 0) + 1
                        if position <= end:
                            yield message
                    elif error.code() in _ENDED:
                        return
                    elif error.name() in UNREADABLE:
                        yield message
                        return
                    elif not is_passing(error):
                        raise JournalBroken(
                            f"{topic}-{partition} cannot be read at offset {position}:"
                            f" {error.str()}"
                        )
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
