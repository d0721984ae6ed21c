"""Begins a generation: the first one, or a new one where the old state cannot be joined."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.journal.header import NONE
from meterstream.streams.core import (
    EventBatch,
    Ids,
    PartitionState,
    Policy,
    Step,
    apply_step,
    begin,
    compute_step,
    genesis_step,
)
from meterstream.streams.core.dedup import ID_BYTES
from meterstream.streams.kafka import Broker, BrokerUnavailable, log_bounds, read_some, timestamp_us

from .errors import NotJoined
from .reader import STALL_SECONDS, header_of
from .restore import Topics, newest_state

log = logging.getLogger("meterstream.restore")

Ledger = Callable[[UUID, int], int | None]
"""Tells up to which offset ClickHouse has counted: (events topic id, partition) to position."""

BATCH_EVENTS: Final = 5_000
NO_IDS: Final = Ids.from_bytes(b"")


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A genesis record, and the journal offset it must get."""

    step: Step
    next_offset: int
    positions_from: str
    """Where the start position comes from, in words."""
    further_ids: Ids | None = None
    """Ids to recognise that do not fit the record: they belong into its snapshot."""


@dataclass(frozen=True, slots=True)
class _Start:
    events_from: int
    source: str
    ids: Ids


def first_generation(broker: Broker, topics: Topics, policy: Policy, partition: int) -> Step:
    """Return the genesis record of a journal that never held anything: from the logs' starts."""
    consumer = broker.consumer()
    try:
        return genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=1,
            events_topic_id=topics.events_id,
            journal_topic_id=topics.journal_id,
            events_from=log_bounds(consumer, topics.events, partition)[0],
            control_from=log_bounds(consumer, topics.control, partition)[0],
            catalog_from=log_bounds(consumer, topics.catalog, 0)[0],
        )
    finally:
        consumer.close()


def new_generation(
    broker: Broker,
    topics: Topics,
    policy: Policy,
    partition: int,
    ledger: Ledger | None,
    max_bytes: int,
) -> NewGeneration:
    """Return the genesis record of the next generation.

    It starts where the newest snapshot stands, else where the ledger in ClickHouse ends. Raises
    NotJoined if neither is known: to start at the beginning would count events twice.
    """
    consumer = broker.consumer()
    try:
        state, _ = newest_state(consumer, topics, policy, partition)
        start, end = log_bounds(consumer, topics.journal, partition)
        generation, prev = _last_of_journal(consumer, topics, partition, start, end)
        if state is not None:
            generation = max(generation, state.generation)
        begins = _start(consumer, topics, policy, partition, state, ledger)
        control_start, _ = log_bounds(consumer, topics.control, partition)
        catalog_start, _ = log_bounds(consumer, topics.catalog, 0)
        carried: dict[str, Any] = {
            "positions_from": begins.source,
            "ids": len(begins.ids),
            "open_cells_closed": state.live_cells if state is not None else None,
            "lost": [] if state is not None else ["sessions", "balances", "limit states"],
        }
        fits = len(begins.ids) * ID_BYTES <= max_bytes // 2
        step = genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=generation + 1,
            events_topic_id=topics.events_id,
            journal_topic_id=topics.journal_id,
            events_from=begins.events_from,
            # Without a state the entries are read again from the start of their topics.
            control_from=state.control_position if state is not None else control_start,
            catalog_from=state.catalog_position if state is not None else catalog_start,
            clock_us=state.clock_us if state is not None else 0,
            prev=prev,
            ids=begins.ids if fits else None,
            ids_since_us=state.ids_since_us if state is not None else None,
            catalog=tuple(state.entries.catalog.values()) if state is not None else (),
            control=tuple(state.entries.control) if state is not None else (),
            carried=carried,
        )
        return NewGeneration(step, end, begins.source, None if fits else begins.ids)
    finally:
        consumer.close()


def _start(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    state: PartitionState | None,
    ledger: Ledger | None,
) -> _Start:
    """Decide where the new generation reads on, and which ids it must recognise."""
    first, end = log_bounds(consumer, topics.events, partition)
    ids = _kept_ids(state) if state is not None else NO_IDS
    if state is not None and state.events_topic_id != topics.events_id:
        return _Start(first, "the start of an events topic that was made again", ids)
    if state is not None:
        if state.events_position > end:
            return _Start(end, f"the end of {topics.events}-{partition}, which was cut", ids)
        return _Start(state.events_position, "the newest snapshot", ids)
    position = ledger(topics.events_id, partition) if ledger is not None else None
    if position is None:
        raise NotJoined(
            f"{topics.events}-{partition}: neither a snapshot nor a ledger says up to where events"
            " were counted, and a new generation could count them twice. Bring back the topic"
            f" {topics.snapshots}, or let the meter reach ClickHouse, which has the ledger"
        )
    position = min(position, end)
    ids = _ids_before(consumer, topics, policy, partition, first, position)
    return _Start(position, "the ledger in ClickHouse", ids)


def _ids_before(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    first: int,
    position: int,
) -> Ids:
    """Return the ids of the horizon of events before `position`, by counting them once more."""
    scratch = begin(
        policy,
        partition,
        0,
        0,
        genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=1,
            events_topic_id=topics.events_id,
            journal_topic_id=topics.journal_id,
            events_from=first,
        ),
    )
    last_us = 0
    for batch in _batches(consumer, topics.events, partition, first, position):
        last_us = max(last_us, *batch.log_times_us, last_us)
        step = compute_step(scratch, batch, now_us=last_us)
        apply_step(scratch, step, scratch.link.next_offset, last_us)
    return _kept_ids(scratch)


def _kept_ids(state: PartitionState) -> Ids:
    """Return all ids that a state would recognise."""
    runs = [run.ids() for run in state.dedup.runs()]
    if not runs:
        return NO_IDS
    return Ids.of(
        np.concatenate([ids.hi for ids in runs]),
        np.concatenate([ids.lo for ids in runs]),
        np.concatenate([ids.content for ids in runs]),
        np.concatenate([ids.hour for ids in runs]),
    )


def _batches(
    consumer: Consumer, topic: str, partition: int, first: int, end: int
) -> Iterator[EventBatch]:
    start = first
    held: list[tuple[int, Any]] = []
    for offset, message in _messages(consumer, topic, partition, first, end):
        held.append((offset, message))
        if len(held) >= BATCH_EVENTS:
            yield _batch(start, offset + 1, held)
            start, held = offset + 1, []
    if held:
        yield _batch(start, end, held)


def _batch(start: int, end: int, messages: list[tuple[int, Any]]) -> EventBatch:
    return EventBatch(
        start,
        end,
        [offset for offset, _ in messages],
        [timestamp_us(message) for _, message in messages],
        [message.value() for _, message in messages],
    )


def _last_of_journal(
    consumer: Consumer, topics: Topics, partition: int, start: int, end: int
) -> tuple[int, int]:
    """Return the highest generation the journal names, and the offset of its last record.

    The chain may be broken, so every header counts, the void ones too: the number of a generation
    that was used is never used again.
    """
    generation, last = 0, NONE
    for offset, message in _messages(consumer, topics.journal, partition, start, end):
        try:
            generation, last = max(generation, header_of(message).generation), offset
        except MalformedRecord as malformed:
            log.warning("partition %d: %s", partition, malformed)
    return generation, last


def _messages(
    consumer: Consumer, topic: str, partition: int, start: int, end: int
) -> Iterator[tuple[int, Any]]:
    if start >= end:
        return
    consumer.assign([TopicPartition(topic, partition, start)])
    position, heard = start, time.monotonic()
    try:
        while position < end:
            for message in read_some(consumer, 500, 0.5):
                offset, error = message.offset() or 0, message.error()
                if error is None:
                    heard = time.monotonic()
                    position = offset + 1
                    if offset < end:
                        yield offset, message
                elif error.code() == KafkaError._PARTITION_EOF:
                    position = max(position, offset)
            if time.monotonic() - heard > STALL_SECONDS:
                raise BrokerUnavailable(f"{topic}-{partition} gave no record for a while")
    finally:
        consumer.unassign()
