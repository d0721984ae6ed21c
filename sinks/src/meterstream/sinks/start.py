"""Where a feed goes on in a journal partition, and what to do where the journal was cut.

A feed keeps its place twice: as a link in the metadata of its committed offset, and in the table
`positions`, written with the rows. It goes on at the earlier one, since rows are idempotent; and
only at a link, never at a bare offset. Where ClickHouse has no place at all it is empty, and all
rows are made again from the genesis record on. Where the journal no longer has the place, the feed
looks for a later genesis record.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from clickhouse_connect.driver.client import Client
from confluent_kafka import Message

from meterstream.schemas.journal import (
    Header,
    Link,
    MalformedRecord,
    find_header,
    packed_header,
)
from meterstream.schemas.journal.header import MAX_GRACE_SECONDS, NONE

from .errors import JournalBroken
from .log_reader import LogReader
from .positions import read_position
from .record import leader_epoch_of
from .stages import TEAMS, Stage
from .windows import SECOND_US

REWIND_US: Final = 3600 * 1_000_000
"""How much of the clock before a cut is read again, besides the grace there: cells that were open
at the cut may have lost the row they had before it, and are written anew by these records."""


log = logging.getLogger(__name__)


def advice(stage: Stage, partition: int) -> str:
    """Return what to do where the journal of `partition` cannot be followed any more."""
    return (
        f"Begin a new generation with `{stage.meter} --new-generation --partition {partition}`,"
        " then start the sink again"
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A journal record that the ledger has."""

    link: Link
    """After it."""
    leader_epoch: int
    events_topic_id: UUID


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: after `link`, or at `offset` if the chain begins there."""

    offset: int
    link: Link | None
    cut: Kept | None = None
    """Set where the journal lost records that were stored: the last one left of them. Rows of
    later records must be removed before anything is read."""
    lost: str | None = None
    """Set where the journal cannot be followed from `link`: why. A genesis record of a later
    generation is looked for from `offset` on; if there is none the feed stops with this."""
    stored: Mapping[UUID, int] = field(default_factory=dict)
    """Up to where the events of each topic are stored, by its id: where a genesis that is looked
    for begins before that, they would be counted twice."""


class StartFinder:
    """Finds the start of one feed in the partitions of the journal."""

    def __init__(
        self, client: Client, log_reader: LogReader, topic: str, feed: str, stage: Stage = TEAMS
    ) -> None:
        self._client = client
        self._stage = stage
        self._log = log_reader
        self._topic = topic
        self._feed = feed

    def find(self, partition: int, committed: Link | None) -> Start:
        """Return where to begin in `partition`, or to look for a later generation.

        Raises JournalBroken where that is nowhere.
        """
        low, high = self._log.bounds(self._topic, partition)
        position = read_position(self._client, self._feed, partition)
        if position is None:
            if committed is not None:
                log.warning(
                    "%s: ClickHouse holds nothing of journal partition %d up to its committed"
                    " offset %d; all rows are made again",
                    self._feed,
                    partition,
                    committed.next_offset,
                )
            return Start(low, None)
        link = position.link
        if committed is not None and low <= committed.next_offset and _is_before(committed, link):
            link = committed
        if low > link.next_offset:
            lost = (
                f"{self._topic}-{partition}: the {self._feed} feed goes on at offset"
                f" {link.next_offset}, but retention has removed everything before {low}. The sink"
                " was down for longer than the journal is kept; the rows between are lost."
                " docs/operations.md tells how their events are counted again (The sink was away"
                " for too long)"
            )
            return Start(low, link, lost=lost)
        if self._joins(partition, link, low, high):
            return Start(link.next_offset, link)
        return self._after_cut(partition, link, low)

    def _joins(self, partition: int, link: Link, low: int, high: int) -> bool:
        """Tell whether the journal still holds the record that `link` comes from."""
        if high < link.next_offset:
            return False
        if link.prev < low:
            return True  # retention removed it, in order
        message = self._log.at(self._topic, partition, link.prev)
        return message is not None and _is_at(message, link)

    def _after_cut(self, partition: int, place: Link, low: int) -> Start:
        """Return where to begin in a journal that lost records which are stored.

        `place` is where the feed stood.
        """
        stored = self._client.query(
            "SELECT journal_offset, generation, events_to, toUnixTimestamp64Micro(clock), version,"
            " events_topic_id FROM {ledger:Identifier} FINAL"
            " WHERE partition = {partition:UInt16} AND journal_offset >= {low:Int64}"
            " AND generation = {generation:UInt32}"
            " AND events_topic_id IN (SELECT events_topic_id FROM {ledger:Identifier}"
            " WHERE partition = {partition:UInt16} AND generation = {generation:UInt32}"
            # By the log, for another journal's versions tell nothing of this one's.
            " ORDER BY log_time DESC LIMIT 1)"
            " ORDER BY journal_offset",
            parameters={
                "ledger": self._stage.ledger,
                "partition": partition,
                "generation": place.generation,
                "low": low,
            },
        ).result_rows
        kept = [
            Kept(
                Link(int(at) + 1, int(at), int(generation), int(events_to), int(clock)),
                leader_epoch_of(int(version)),
                UUID(str(topic_id)),
            )
            for at, generation, events_to, clock, version, topic_id in stored
        ]
        # What is left of the journal is a beginning of what it was: halve until its end is found.
        left, right = 0, len(kept)
        grace_us = 0
        while left < right:
            middle = (left + right) // 2
            one = kept[middle]
            message = self._log.at(self._topic, partition, one.link.prev)
            if message is not None and _is_at(message, one.link, one):
                left = middle + 1
                grace_us = _grace_us_of(message)
            else:
                right = middle
        if left == 0:
            return self._without_known_records(partition, place, low)
        cut = kept[left - 1]
        latest_us = cut.link.clock_us - REWIND_US - grace_us
        before = [one.link for one in kept[:left] if one.link.clock_us <= latest_us]
        start = before[-1] if before else None
        if start is None:
            first = self._log.at(self._topic, partition, low)
            if first is None or not _begins_all(first):
                raise JournalBroken(
                    f"{self._topic}-{partition} was cut at offset {cut.link.prev}, and too"
                    " little of it is left to mend the minutes that were open then."
                    f" {advice(self._stage, partition)}"
                )
        log.error(
            "%s: %s-%d lost its records after offset %d, whose rows are stored; they are removed",
            self._feed,
            self._topic,
            partition,
            cut.link.prev,
        )
        return Start(low if start is None else start.next_offset, start, cut)

    def _without_known_records(self, partition: int, place: Link, low: int) -> Start:
        """Return where to look for a later generation in a journal that was deleted or made anew.

        Raises JournalBroken where all of Kafka was: a later generation would leave events out.
        """
        name = f"{self._topic}-{partition}"
        first = self._log.at(self._topic, partition, low)
        stored = self._stored(partition, place)
        if first is not None and _is_of_another_kafka(first, place, stored):
            raise JournalBroken(
                f"{name} counts another events topic than ClickHouse knows: all of Kafka was set up"
                " anew. Keep this database, and begin no new generation: stop the sinks, `TRUNCATE"
                " TABLE positions` in ClickHouse, start the sinks again"
            )
        remedy = advice(self._stage, partition)
        if first is None:
            remedy = (
                "It is empty. If all of Kafka was set up anew, start the meter, then the sink again"
                f" and do as it says. Else: {remedy}"
            )
        lost = (
            f"{name}: none of the records that ClickHouse knows is in the journal any more: it was"
            f" deleted, or made anew. Keep this database. {remedy}"
        )
        return Start(low, place, lost=lost, stored=stored)

    def _stored(self, partition: int, place: Link) -> dict[UUID, int]:
        """Return up to where the events of each topic are stored by the generations up to `place`.

        A later one may be the one that is looked for, if a sink was killed before it wrote that.
        """
        rows = self._client.query(
            "SELECT events_topic_id, max(events_to) FROM {ledger:Identifier}"
            " WHERE partition = {partition:UInt16} AND generation <= {generation:UInt32}"
            " GROUP BY events_topic_id",
            parameters={
                "ledger": self._stage.ledger,
                "partition": partition,
                "generation": place.generation,
            },
        ).result_rows
        return {UUID(str(topic_id)): int(position) for topic_id, position in rows}


def header_of(message: Message) -> Header | None:
    """Return a record's header, None if it is not the meter's; MalformedRecord if it is broken."""
    error = message.error()
    if error is not None:
        raise MalformedRecord(f"the record cannot be read: {error.str()}")
    return find_header(packed_header(message.headers()), message.value() or b"")


def place_of(message: Message) -> tuple[int, int]:
    """Return partition and offset of a record that was read."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None, "a record that was read has its place"
    assert offset is not None, "a record that was read has its place"
    return partition, offset


def timestamp_us_of(message: Message) -> int:
    """Return when the broker stored a record, in microseconds since 1970."""
    return int(message.timestamp()[1]) * 1000


def _is_before(one: Link, other: Link) -> bool:
    """Tell whether `one` is the earlier place; a journal made again begins at offset 0 again."""
    return (one.generation, one.next_offset) < (other.generation, other.next_offset)


def _is_at(message: Message, link: Link, kept: Kept | None = None) -> bool:
    """Tell whether `message` is the record whose `link` this is, or was: it may be broken now.

    What the ledger has `kept` of it tells more: first records of journals are all alike.
    """
    try:
        header = header_of(message)
    except MalformedRecord:
        return True
    if header is None or not link.follows(header, timestamp_us_of(message)):
        return False
    return kept is None or (kept.events_topic_id, kept.leader_epoch) == (
        header.events_topic_id,
        max(0, message.leader_epoch() or 0),
    )


def _grace_us_of(message: Message) -> int:
    """Return the grace that a record tells; the longest one if it is broken."""
    try:
        header = header_of(message)
    except MalformedRecord:
        header = None
    return (MAX_GRACE_SECONDS if header is None else header.grace_seconds) * SECOND_US


def _is_of_another_kafka(first: Message, place: Link, stored: Mapping[UUID, int]) -> bool:
    """Tell whether a journal with this `first` record began by itself, for another events topic.

    A generation that was begun for it continues what is `stored`, so it is later than `place`.
    """
    try:
        header = header_of(first)
    except MalformedRecord:
        return False
    return (
        header is not None
        and header.generation <= place.generation
        and header.events_topic_id not in stored
    )


def _begins_all(message: Message) -> bool:
    """Tell whether `message` is the genesis of a journal's first generation."""
    try:
        header = header_of(message)
    except MalformedRecord:
        return False
    return header is not None and header.prev == NONE
