"""Deciding events once more in memory: for the identities and the clock that they leave behind."""

import logging
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer

from meterstream.streams.core import (
    EventBatch,
    Ids,
    PartitionState,
    apply_step,
    compute_step,
    next_batch,
)
from meterstream.streams.kafka import log_bounds, read_at, timestamp_us

from .errors import NotJoined
from .reader import read_log

log = logging.getLogger("meterstream.restore")

BATCH_EVENTS: Final = 5_000
NO_IDS: Final = Ids.from_bytes(b"")


def recount(consumer: Consumer, topic: str, state: PartitionState, position: int) -> int:
    """Bring `state` to `position` of the events topic, as its own meter would have.

    Nothing is written. Returns how many offsets the log no longer has: where there are any, events
    that may have been among them are too late from then on. Raises NotJoined where events cannot
    be read, for resends of them would be counted again.
    """
    before = state.events_position
    if position <= before:
        return 0
    first, _ = log_bounds(consumer, topic, state.partition)
    for batch in _batches(consumer, topic, state.partition, before, first, position):
        now_us = time.time_ns() // 1000
        waiting: EventBatch | None = batch
        while waiting is not None:
            part, waiting = next_batch(state, waiting)
            step = compute_step(state, part, now_us=now_us)
            apply_step(state, step, state.link.next_offset, now_us)
    lost = min(first, position) - before
    if lost > 0:
        trust_ids_since(consumer, topic, state, first)
    return max(0, lost)


def trust_ids_since(consumer: Consumer, topic: str, state: PartitionState, first: int) -> None:
    """Let events be too late that may stand in the log before its first offset, `first`.

    An event is logged no earlier than its own time less what it may be ahead of the clock.
    """
    message = read_at(consumer, topic, state.partition, first)
    at_us = state.clock_us if message is None else timestamp_us(message)
    state.ids_since_us = max(state.ids_since_us, at_us + state.policy.ahead_us)


def kept_ids(state: PartitionState) -> Ids:
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
    consumer: Consumer, topic: str, partition: int, start: int, first: int, end: int
) -> Iterator[EventBatch]:
    """Yield batches that cover [start, end), of which the log holds what is from `first` on."""
    held: list[tuple[int, Any]] = []
    for offset, message in read_log(consumer, topic, partition, max(start, first), end):
        error = message.error()
        if error is not None:
            raise NotJoined(
                f"{topic}-{partition}: the events at offset {offset} cannot be read again:"
                f" {error.str()}. Without them their resends would be counted twice;"
                " docs/operations.md tells what to do (A batch of events is damaged)"
            )
        held.append((offset, message))
        if len(held) >= BATCH_EVENTS:
            yield _batch(start, offset + 1, held, first)
            start, held = offset + 1, []
    if start < end:
        yield _batch(start, end, held, first)


def _batch(start: int, end: int, messages: list[tuple[int, Any]], log_start: int) -> EventBatch:
    return EventBatch(
        start,
        end,
        [offset for offset, _ in messages],
        [timestamp_us(message) for _, message in messages],
        [message.value() for _, message in messages],
        log_start=min(log_start, end),
    )
