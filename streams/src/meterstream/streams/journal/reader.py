"""Reads a journal partition record by record, and tells the valid ones from the void."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from meterstream.schemas.journal import (
    Chain,
    ChainReader,
    Header,
    Link,
    MalformedRecord,
    find_header,
    packed_header,
)
from meterstream.schemas.kafka_errors import UNREADABLE
from meterstream.streams.kafka import BrokerUnavailable, read_some, timestamp_us

STALL_SECONDS: Final = 30.0
"""How long a reader waits for the next record before it says that the broker is not there."""


READ_RECORDS: Final = 200

log = logging.getLogger("meterstream.journal")


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


def header_of(message: Message) -> Header | None:
    """Return the chain header of a journal record, None if the record is not the meter's.

    MalformedRecord if it is broken.
    """
    _check_readable(message)
    return find_header(packed_header(message.headers()), message.value() or b"")


def _check_readable(message: Message) -> None:
    error = message.error()
    if error is not None:
        raise MalformedRecord(f"the record cannot be read: {error.str()}")


def warn_of_stranger(message: Message) -> None:
    """Log that something else than the meter writes to the journal."""
    log.warning(
        "%s-%s, offset %s is not the meter's: it is void, and so are others like it",
        message.topic(),
        message.partition(),
        message.offset(),
    )


def take_valid(chain: Chain, message: Message) -> JournalRecord | None:
    """Move `chain` past `message`; return its record if it is valid, None if it is void.

    Raises ChainHole, or MalformedRecord if a valid record cannot be trusted.
    """
    offset = message.offset()
    assert offset is not None
    header = header_of(message)
    if header is None:
        if not chain.strangers:
            warn_of_stranger(message)
        chain.pass_over(offset)
        return None
    at_us = timestamp_us(message)
    if not chain.take(offset, at_us, header):
        return None
    value = message.value() or b""
    header.check_value(value)
    return JournalRecord(offset, at_us, header, value, len(value))


def take_next(reader: ChainReader, message: Message) -> JournalRecord | None:
    """Move `reader` past `message` as `take_valid` does; where it looks ahead, it goes on so."""
    offset = message.offset()
    assert offset is not None
    if reader.looks_ahead and message.error() is not None:
        reader.cannot_read(offset)
        return None
    _check_readable(message)
    at_us, value = timestamp_us(message), message.value() or b""
    before = reader.strangers
    header = reader.take(offset, at_us, packed_header(message.headers()), value)
    if reader.strangers == 1 and not before:
        warn_of_stranger(message)
    return None if header is None else JournalRecord(offset, at_us, header, value, len(value))


def is_at(message: Message, link: Link) -> bool:
    """Tell whether `message` is the record that `link` comes from, or was: it may be broken now."""
    try:
        header = header_of(message)
    except MalformedRecord:
        return True
    return header is not None and link.follows(header, timestamp_us(message))


def look_ahead(reader: ChainReader, message: Message, reason: str) -> None:
    """Let `reader`, which cannot get past `message`, look behind it for a later genesis."""
    offset = message.offset()
    assert offset is not None
    reader.look_ahead(offset, reason)
    take_next(reader, message)


def read_log(
    consumer: Consumer,
    topic: str,
    partition: int,
    start: int,
    end: int,
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Message]]:
    """Yield the records of a log from offset `start` up to, not including, `end`.

    In the place of those that are UNREADABLE comes the client's error. Raises Interrupted once
    `unwanted` says so, BrokerUnavailable if nothing comes for a while.
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
                elif error.name() in UNREADABLE:
                    position = max(position, offset) + 1
                    yield position - 1, message
                    heard = time.monotonic()
                    # The client would give the same again.
                    consumer.assign([TopicPartition(topic, partition, position)])
                    break
            if time.monotonic() - heard > STALL_SECONDS:
                raise BrokerUnavailable(
                    f"{topic}-{partition} gave no record at offset {position} for"
                    f" {STALL_SECONDS:.0f} s"
                )
    finally:
        consumer.unassign()
