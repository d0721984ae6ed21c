"""Brings the state of a partition back: newest complete snapshot, then the chain after it.

Everything here blocks and runs in a thread of its own; nobody else touches the state meanwhile.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import xxhash
from confluent_kafka import Consumer

from meterstream.schemas.journal import Chain, ChainBroken, MalformedRecord
from meterstream.schemas.journal.header import NONE
from meterstream.streams.core import (
    PartitionState,
    Policy,
    SnapshotDamaged,
    SnapshotNeeded,
    apply_record,
    load_snapshot,
)
from meterstream.streams.kafka import Broker, log_bounds, read_at, timestamp_us

from .errors import NotJoined
from .reader import header_of, read_log, take_valid
from .snapshots import Catalogue, read_catalogue, read_complete

log = logging.getLogger("meterstream.restore")

ADVICE: Final = (
    "Usage already written stays as it is. To go on from here with a new generation:"
    " `meterstream meter --new-generation`"
)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics a partition's state is made of: their full names, and the ids of four of them."""

    events: str
    control: str
    catalog: str
    journal: str
    snapshots: str
    events_id: UUID
    journal_id: UUID
    control_id: UUID
    catalog_id: UUID


@dataclass(frozen=True, slots=True)
class Restored:
    """What a partition can go on from."""

    state: PartitionState | None
    """None: nothing was ever written, and the first generation may begin."""
    next_offset: int
    """The journal offset that the next record must get."""
    records: int = 0
    void_records: int = 0
    journal_bytes: int = 0
    seconds: float = 0.0
    catalogue: Catalogue | None = None
    """What the snapshots topic holds, where it was read."""


def restore(
    broker: Broker,
    topics: Topics,
    policy: Policy,
    partition: int,
    parked: PartitionState | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> Restored:
    """Restore a partition's state, from `parked` on if a state was kept from before.

    Raises NotJoined if state and logs do not fit, Interrupted once `unwanted` says so, and
    BrokerUnavailable.
    """
    begun = time.monotonic()
    consumer = broker.consumer(fetch_wait_max_ms=50, queued_max_messages_kbytes=65_536)
    try:
        state, catalogue = parked, None
        if state is None:
            state, catalogue = newest_state(consumer, topics, policy, partition, unwanted)
        start, end = log_bounds(consumer, topics.journal, partition)
        if state is None and start == end == 0:
            return Restored(None, 0, seconds=time.monotonic() - begun, catalogue=catalogue)
        if state is not None:
            check_journal(consumer, topics, state, start, end)
        chain = Chain(state.link if state is not None else None)
        first = chain.link.next_offset if chain.link is not None else start
        records = size = 0
        try:
            for _, message in read_log(consumer, topics.journal, partition, first, end, unwanted):
                record = take_valid(chain, message)
                if record is None:
                    continue
                state = apply_record(
                    policy,
                    partition,
                    state,
                    record.offset,
                    record.timestamp_us,
                    record.header,
                    record.value,
                )
                records += 1
                size += record.size
        except (ChainBroken, MalformedRecord, SnapshotNeeded) as broken:
            raise NotJoined(f"{topics.journal}-{partition}: {broken}. {ADVICE}") from broken
        if state is None:
            raise NotJoined(
                f"{topics.journal}-{partition} has lost its records (start {start}, end {end}) and"
                f" no snapshot is left. {ADVICE}"
            )
        check_entries(topics, state)
        check_events(consumer, topics, state)
        return Restored(
            state,
            max(end, state.link.next_offset),
            records,
            chain.void_records,
            size,
            time.monotonic() - begun,
            catalogue,
        )
    finally:
        consumer.close()


def newest_state(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    unwanted: Callable[[], bool] = lambda: False,
) -> tuple[PartitionState | None, Catalogue]:
    """Return the state of the newest snapshot that is whole, and what the snapshots topic holds."""
    catalogue, offsets = read_catalogue(consumer, topics.snapshots, partition, unwanted)
    states = whole_states(consumer, topics, policy, partition, catalogue, offsets, unwanted)
    return next(states, None), catalogue


def whole_states(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    catalogue: Catalogue,
    offsets: Mapping[bytes, int],
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[PartitionState]:
    """Yield the states of the snapshots that are whole, newest first."""
    for snapshot in read_complete(
        consumer, topics.snapshots, partition, catalogue, offsets, unwanted
    ):
        try:
            yield load_snapshot(policy, snapshot.manifest, snapshot.segments)
        except SnapshotDamaged as damage:
            log.warning(
                "partition %d: the snapshot at journal offset %d is passed over: %s",
                partition,
                snapshot.journal_offset,
                damage,
            )


def without_advice(apart: NotJoined) -> str:
    """Return the reason alone, for where the advice is being followed."""
    return str(apart).removesuffix(f". {ADVICE}")


def check_journal(
    consumer: Consumer, topics: Topics, state: PartitionState, start: int, end: int
) -> None:
    """Raise NotJoined unless the journal goes on where `state` stands, and was not rewritten."""
    name = f"{topics.journal}-{state.partition}"
    if state.journal_topic_id != topics.journal_id:
        raise NotJoined(
            f"{name} was made again: its id is {topics.journal_id}, the state was written to"
            f" {state.journal_topic_id}. {ADVICE}"
        )
    link = state.link
    if not start <= link.next_offset <= end:
        raise NotJoined(
            f"{name} holds offsets {start} to {end}, the state goes on at {link.next_offset}:"
            f" records in between are lost. {ADVICE}"
        )
    if link.prev < start:
        return  # retention took the record itself, and nothing after it
    message = read_at(consumer, topics.journal, state.partition, link.prev)
    if message is None:
        raise NotJoined(f"{name} has no record at offset {link.prev}. {ADVICE}")
    try:
        header = header_of(message)
    except MalformedRecord as malformed:
        raise NotJoined(f"{name}: {malformed}. {ADVICE}") from malformed
    if header is None:
        raise NotJoined(f"{name}: the record at offset {link.prev} is not the meter's. {ADVICE}")
    if not link.follows(header, timestamp_us(message)):
        raise NotJoined(
            f"{name} was rewritten: the record at offset {link.prev} is not the one that the"
            f" snapshot was taken after (an unclean leader election does that). {ADVICE}"
        )


def check_entries(topics: Topics, state: PartitionState) -> None:
    """Raise NotJoined if the control or catalog topic is not the one that was read."""
    for name, found, read in (
        (topics.control, topics.control_id, state.control_topic_id),
        (topics.catalog, topics.catalog_id, state.catalog_topic_id),
    ):
        if found != read:
            raise NotJoined(
                f"{name} was made again: its id is {found}, partition {state.partition} has read"
                f" {read}. Usage already written stays as it is. To read the topic from its start"
                " with a new generation: `meterstream meter --new-generation`"
            )


def check_events(consumer: Consumer, topics: Topics, state: PartitionState) -> None:
    """Raise NotJoined unless the events log still holds the last event that was read."""
    name = f"{topics.events}-{state.partition}"
    if state.events_topic_id != topics.events_id:
        raise NotJoined(
            f"{name} was made again: its id is {topics.events_id}, the state has counted"
            f" {state.events_topic_id}. {ADVICE}"
        )
    start, end = log_bounds(consumer, topics.events, state.partition)
    if state.events_position > end:
        raise NotJoined(
            f"{name} ends at offset {end}, and events up to {state.events_position} were counted:"
            f" the log was cut. {ADVICE}"
        )
    last = state.last_event
    if last.offset == NONE or last.offset < start:
        return
    message = read_at(consumer, topics.events, state.partition, last.offset)
    epoch = NONE if message is None or message.leader_epoch() is None else message.leader_epoch()
    if (
        message is None
        or timestamp_us(message) != last.time_us
        or xxhash.xxh3_64_intdigest(message.value() or b"") != last.hash
        or (NONE not in (epoch, last.epoch) and epoch != last.epoch)
    ):
        raise NotJoined(
            f"{name} was rewritten: offset {last.offset} does not hold the event that was counted"
            f" there (an unclean leader election does that). {ADVICE}"
        )
