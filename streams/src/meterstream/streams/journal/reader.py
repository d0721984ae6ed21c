"""Reads a journal partition record by record, and tells the valid ones from the void."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from meterstream.schemas.journal import HEADER_KEY, Chain, Header, MalformedRecord
from meterstream.streams.kafka import BrokerUnavailable, read_some, timestamp_us

STALL_SECONDS: Final = 30.0
"""How long a reader waits for the next record before it says that the broker is not there."""


READ_RECORDS: Final = 200


class Interrupted(Exception):
    """Reading was no longer wanted."""


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One valid record of the chain, its value checked against its header."""

    offset: int
    timestamp_us: int
    header: Header
    value: bytes
    size: int


def header_of(message: Message) -> Header:
    """Return the chain header of a journal record; MalformedRecord if it carries none."""
    headers: Iterable[tuple[str, object]] = message.headers() or ()  # type: ignore[assignment]
    for key, value in headers:
        if key == HEADER_KEY and isinstance(value, bytes):
            return Header.unpack(value)
    raise MalformedRecord(
        f"the record at {message.topic()}-{message.partition()} offset {message.offset()} has no"
        f" {HEADER_KEY} header: something else than the meter writes to the journal"
    )


def take_valid(chain: Chain, message: Message) -> JournalRecord | None:
    """Move `chain` past `message`; return its record if it is valid, None if it is void.

    Raises ChainHole, or MalformedRecord if a valid record cannot be trusted.
    """
    offset = message.offset()
    assert offset is not None
    header = header_of(message)
    at_us = timestamp_us(message)
    if not chain.take(offset, at_us, header):
        return None
    value = message.value() or b""
    header.check_value(value)
    return JournalRecord(offset, at_us, header, value, len(value))


def read_chain(
    consumer: Consumer,
    topic: str,
    partition: int,
    chain: Chain,
    start: int,
    end: int,
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[JournalRecord]:
    """Yield the valid records from offset `start` up to, not including, `end`.

    Raises Interrupted once `unwanted` says so, BrokerUnavailable if nothing comes for a while,
    and what `take_valid` raises.
    """
    for _, message in read_log(consumer, topic, partition, start, end, unwanted):
        record = take_valid(chain, message)
        if record is not None:
            yield record


def read_log(
    consumer: Consumer,
    topic: str,
    partition: int,
    start: int,
    end: int,
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Message]]:
    """Yield the records of a log from offset `start` up to, not including, `end`.

    Raises Interrupted once `unwanted` says so, BrokerUnavailable if nothing comes for a while.
    """
    if start >= end:
        return
    consumer.assign([TopicPartition(topic, partition, start)])
    position, heard = start, time.monotonic()
    try:
        while position < end:
            if unwanted():
                raise Interrupted
            for message in read_some(consumer, READ_RECORDS, 0.5):
                offset, error = message.offset() or 0, message.error()
                if error is None:
                    position = offset + 1
                    if offset < end:
                        yield offset, message
                    heard = time.monotonic()
                elif error.code() == KafkaError._PARTITION_EOF:
                    position = max(position, offset)
            if time.monotonic() - heard > STALL_SECONDS:
                raise BrokerUnavailable(
                    f"{topic}-{partition} gave no record at offset {position} for"
                    f" {STALL_SECONDS:.0f} s"
                )
    finally:
        consumer.unassign()
