"""The state that a partition's snapshots and journal lead to, as far as they can be read."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, Message

from meterstream.schemas.journal import ChainBroken, ChainReader, Kind, Link, MalformedRecord
from meterstream.streams.core import PartitionState, Policy, apply_record
from meterstream.streams.kafka import log_bounds

from .errors import NotJoined
from .ledger import Counted
from .reader import JournalRecord, header_of, look_ahead, read_log, take_next
from .restore import Topics, check_journal, whole_states, without_advice
from .snapshots import read_catalogue

log = logging.getLogger("meterstream.restore")

NOT_READ: Final = "the journal holds no record that can be followed"


@dataclass(frozen=True, slots=True)
class Furthest:
    """How far a partition can be followed."""

    state: PartitionState | None
    """After the last record that could be taken; None where nothing is left to begin with."""
    reached: Link | None
    """Where other readers of the journal come to, which keep no state and go on behind a break at a
    later genesis: at or after the state."""
    generation: int
    """The highest generation that a record or a snapshot names, a void record included."""
    end: int
    """The end of the journal."""
    broke_off: str | None = None
    """Why the state does not stand at the end of the journal, None if it does."""


def furthest_state(
    consumer: Consumer,
    topics: Topics,
    policy: Policy,
    partition: int,
    *,
    with_snapshots: bool = True,
) -> Furthest:
    """Return the state after the last valid record that can be read.

    The journal decides: the newest snapshot that joins it is followed, else the journal from its
    genesis on; a snapshot that joins nothing is taken as it is only where neither is there. Without
    snapshots a state comes no further than other readers of the journal do.
    """
    start, end = log_bounds(consumer, topics.journal, partition)
    catalogue, offsets = read_catalogue(consumer, topics.snapshots, partition)
    named = max((index.generation for index in catalogue.indexes.values()), default=0)
    newest: PartitionState | None = None
    reason = NOT_READ
    states = whole_states(consumer, topics, policy, partition, catalogue, offsets)
    for state in states if with_snapshots else ():
        try:
            check_journal(consumer, topics, state, start, end)
        except NotJoined as apart:
            if newest is None:
                newest, reason = state, without_advice(apart)
            continue
        first = state.link.next_offset
        return _Walk(policy, partition, state, state.link, named).over(
            read_log(consumer, topics.journal, partition, first, end), end
        )
    walked = _Walk(policy, partition, None, None, named).over(
        read_log(consumer, topics.journal, partition, start, end), end
    )
    if walked.state is not None:
        return walked
    if newest is None:
        return Furthest(None, None, walked.generation, end, walked.broke_off or reason)
    # Without a state others may go on at a genesis whose snapshot is lost.
    reached = max(walked.reached or newest.link, newest.link, key=_progress)
    generation = max(walked.generation, newest.generation)
    return Furthest(newest, reached, generation, end, reason)


def _progress(link: Link) -> tuple[int, int]:
    """Return what the further one of two links has the higher of."""
    return link.generation, link.events_position


def reached_from(
    consumer: Consumer, topics: Topics, partition: int, counted: Counted, end: int
) -> Link:
    """Return where a reader comes to that stands behind the record which ClickHouse has counted.

    It brings the rest of its generation to ClickHouse, however late it is.
    """
    start, _ = log_bounds(consumer, topics.journal, partition)
    link = Link(
        counted.journal_offset + 1,
        counted.journal_offset,
        counted.generation,
        counted.events_position,
        0,
    )
    first = max(start, link.next_offset)
    walked = _Walk(None, partition, None, link, counted.generation).over(
        read_log(consumer, topics.journal, partition, first, end), end
    )
    return walked.reached or link


class _Walk:
    """Walks along the journal: with a state as far as it can be read, then as other readers do."""

    def __init__(
        self,
        policy: Policy | None,
        partition: int,
        state: PartitionState | None,
        link: Link | None,
        generation: int,
    ) -> None:
        self._policy = policy
        self._partition = partition
        self._state = state
        self._chain = ChainReader(link)
        self._reached = link
        self._generation = generation if state is None else max(generation, state.generation)
        self._broke_off: str | None = None

    def over(self, messages: Iterator[tuple[int, Message]], end: int) -> Furthest:
        """Walk over `messages`, up to the journal's `end`."""
        for offset, message in messages:
            self._pass(offset, message)
        return Furthest(self._state, self._reached, self._generation, end, self._broke_off)

    def _pass(self, offset: int, message: Message) -> None:
        with suppress(MalformedRecord):
            header = header_of(message)
            if header is not None:
                # The number of a generation that was used once, if by a void one, stays used.
                self._generation = max(self._generation, header.generation)
        try:
            record = take_next(self._chain, message)
        except (ChainBroken, MalformedRecord) as broken:
            reason = f"at journal offset {offset}: {broken}"
            self._broke_off = self._broke_off or reason
            look_ahead(self._chain, message, reason)
            return
        if record is not None:
            self._reached = self._chain.link
            self._apply(record)

    def _apply(self, record: JournalRecord) -> None:
        """Take a record into the state, which stands still from a break to the next genesis."""
        if self._policy is None or (self._broke_off and record.header.kind is not Kind.GENESIS):
            return
        try:
            self._state = apply_record(
                self._policy,
                self._partition,
                self._state,
                record.offset,
                record.timestamp_us,
                record.header,
                record.value,
            )
        except ValueError as unreadable:
            # Only a state needs what this record misses; sinks go on.
            self._broke_off = self._broke_off or f"at journal offset {record.offset}: {unreadable}"
        else:
            self._broke_off = None
