"""Where a feed begins in a journal partition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import KafkaError
from tests.support.journal import EVENTS_TOPIC_ID, TODAY_US, Writer

from meterstream.schemas.journal import HEADER_KEY, Link
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.record import JournalRecord
from meterstream.sinks.start import Kept, Start, StartFinder

HOUR_US = 3_600_000_000


@dataclass
class Message:
    """A record as the client delivers it."""

    record: JournalRecord
    with_header: bool = True
    is_broken: bool = False
    is_readable: bool = True

    def headers(self) -> list[tuple[str, bytes]] | None:
        packed = b"broken" if self.is_broken else self.record.header.pack()
        return [(HEADER_KEY, packed)] if self.with_header else None

    def value(self) -> bytes:
        return self.record.value if self.with_header else b"stranger"

    def error(self) -> KafkaError | None:
        return None if self.is_readable else KafkaError(KafkaError._BAD_COMPRESSION)

    def timestamp(self) -> tuple[int, int]:
        return 2, self.record.timestamp_us // 1000

    def leader_epoch(self) -> int:
        return self.record.leader_epoch


@dataclass
class Journal:
    """A journal that holds the records from `low` on."""

    records: list[JournalRecord]
    low: int = 0
    with_headers: bool = True
    broken: tuple[int, ...] = ()
    """Offsets of broken records."""
    unreadable: tuple[int, ...] = ()
    """Offsets of records that the client itself cannot read."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.low, self.low + len(self.records)

    def at(self, topic: str, partition: int, offset: int) -> Message | None:
        found = [record for record in self.records if record.offset == offset]
        if not found:
            return None
        is_readable = offset not in self.unreadable
        return Message(found[0], self.with_headers, offset in self.broken, is_readable)


@dataclass
class Answer:
    """Rows of a query."""

    result_rows: Sequence[tuple[object, ...]]


@dataclass
class ClickHouse:
    """Answers with a position and the ledger."""

    position: Link | None
    ledger: list[JournalRecord]

    def query(self, sql: str, parameters: dict[str, Any]) -> Answer:
        if "max(events_to)" in sql:
            ends = [record.header.events_to for record in self.ledger]
            return Answer([(str(EVENTS_TOPIC_ID), max(ends))])
        if "FROM positions" in sql:
            at = self.position
            return Answer(
                []
                if at is None
                else [(at.next_offset, at.prev, at.generation, at.events_position, at.clock_us, 0)]
            )
        return Answer(
            [
                (
                    record.offset,
                    record.header.generation,
                    record.header.events_to,
                    record.link.clock_us,
                    record.version,
                    str(record.header.events_topic_id),
                )
                for record in self.ledger
                if record.offset >= parameters["low"]
            ]
        )


def chain(count: int) -> list[JournalRecord]:
    """Return a genesis and steps, an hour of the clock apart."""
    writer = Writer()
    return [
        writer.genesis(TODAY_US),
        *(writer.step(clock_us=TODAY_US + hour * HOUR_US) for hour in range(1, count)),
    ]


def find(
    journal: Journal,
    committed: Link | None,
    position: Link | None,
    ledger: list[JournalRecord] | None = None,
) -> Start:
    """Return where the cells feed begins."""
    clickhouse: Any = ClickHouse(position, ledger or journal.records)
    log: Any = journal
    return StartFinder(clickhouse, log, "journal", "cells").find(0, committed)


def test_an_empty_database_begins_at_the_beginning() -> None:
    """Whatever is committed."""
    records = chain(3)
    assert find(Journal(records), None, None) == Start(0, None)
    assert find(Journal(records), records[2].link, None) == Start(0, None)


def test_the_earlier_of_both_places_is_taken() -> None:
    """Rows that are sent twice do no harm, rows that are not sent do."""
    records = chain(4)
    early, late = records[1].link, records[3].link
    assert find(Journal(records), early, late) == Start(2, early)
    assert find(Journal(records), late, early) == Start(2, early)
    assert find(Journal(records), None, late) == Start(4, late)


def test_a_committed_place_that_retention_passed_does_not_matter() -> None:
    """The rows up to the position are stored."""
    records = chain(5)
    journal = Journal(records[3:], low=3)
    assert find(journal, records[1].link, records[3].link) == Start(4, records[3].link)


def test_a_place_whose_own_record_retention_took_is_kept() -> None:
    """Nothing behind it is missing."""
    records = chain(5)
    assert find(Journal(records[4:], low=4), None, records[3].link) == Start(4, records[3].link)


def test_behind_a_gap_a_later_generation_is_looked_for() -> None:
    """From the first record that is left; the message says what was lost and what to do."""
    records = chain(5)
    start = find(Journal(records[4:], low=4), None, records[1].link)
    assert (start.offset, start.link) == (4, records[1].link)
    assert "the rows between are lost" in str(start.lost)


def test_a_place_of_an_earlier_generation_is_the_earlier_one() -> None:
    """A journal that was made again has lower offsets in a later generation."""
    stored, writer = chain(4), Writer(generation=2)
    journal = Journal([writer.genesis(TODAY_US), writer.step()])
    start = find(journal, stored[3].link, writer.chain.link, stored)
    assert start.link == stored[3].link
    assert start.lost is not None


def test_a_record_that_is_broken_now_is_still_there() -> None:
    """A place behind a broken record is no cut: rows that are stored stay."""
    records = chain(9)
    journal = Journal(records, broken=(8,))
    assert find(journal, None, records[8].link) == Start(9, records[8].link)
    cut = find(Journal(records[:6], broken=(5,)), None, records[8].link, records)
    assert cut.cut is not None
    assert cut.cut.link == records[5].link
    unreadable = Journal(records, unreadable=(8,))
    assert find(unreadable, None, records[8].link) == Start(9, records[8].link)


def test_a_cut_journal_begins_well_before_the_cut() -> None:
    """Cells that were open at the cut are written anew."""
    records = chain(9)
    start = find(Journal(records[:6]), None, records[8].link, records)
    assert start.cut is not None
    assert start.cut.link == records[5].link
    assert start.link == records[3].link, "an hour and the grace before the cut"
    assert start.offset == 4


def test_a_record_that_another_leader_wrote_is_another_record() -> None:
    """The same positions and clock do not make it the one that is stored."""
    records = chain(6)
    other = chain(6)
    for record in other[4:]:
        object.__setattr__(record, "leader_epoch", 1)
    object.__setattr__(other[5].header, "events_to", 99)
    start = find(Journal(other), None, records[5].link, records)
    assert start.cut is not None
    assert start.cut.link == records[3].link


def test_records_without_headers_are_not_those_that_are_stored() -> None:
    """A journal that somebody filled with other things is not followed."""
    records = chain(3)
    start = find(Journal(records, with_headers=False), None, records[2].link, records)
    assert "none of the records" in str(start.lost)
    assert start.stored == {EVENTS_TOPIC_ID: records[2].header.events_to}


def test_a_journal_of_another_events_topic_is_not_the_one_that_is_stored() -> None:
    """No stored row is removed, and what is told to do leaves out none of its events."""
    stored = chain(4)
    writer = Writer(events_topic_id=UUID(int=7))
    journal = Journal([writer.genesis(TODAY_US), writer.step()])
    with pytest.raises(JournalBroken, match="all of Kafka was set up anew") as stopped:
        find(journal, None, stored[3].link, stored)
    assert "`TRUNCATE TABLE positions`" in str(stopped.value)
    assert "--new-generation" not in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_later_generation_of_another_events_topic_is_looked_for() -> None:
    """It was begun for this database, after journal and events were made again."""
    stored = chain(4)
    writer = Writer(events_topic_id=UUID(int=7), generation=2)
    start = find(Journal([writer.genesis(TODAY_US)]), None, stored[3].link, stored)
    assert (start.offset, start.link) == (0, stored[3].link)
    assert "--new-generation" in str(start.lost)


def test_a_journal_that_was_lost_alone_needs_a_new_generation() -> None:
    """So does one whose first record cannot say which events it counts."""
    stored, again, writer = chain(4), Writer(), Writer()
    start = find(Journal([again.genesis(TODAY_US + 1)]), None, stored[3].link, stored)
    assert "it was deleted, or made anew" in str(start.lost)
    assert "Begin a new generation" in str(start.lost)
    records = [writer.genesis(TODAY_US), writer.idle(TODAY_US + 1), writer.idle(TODAY_US + 2)]
    journal = Journal(records[1:2], low=1, broken=(1,))
    assert "Begin a new generation" in str(find(journal, None, records[2].link, records[:1]).lost)


def test_before_an_empty_journal_the_meter_is_started_first() -> None:
    """Only what it writes tells which of both remedies is right."""
    stored = chain(4)
    start = find(Journal([]), None, stored[3].link, stored)
    assert "If all of Kafka was set up anew, start the meter" in str(start.lost)
    assert "--new-generation" in str(start.lost)


def test_too_little_journal_before_the_cut_stops() -> None:
    """Where open minutes cannot be mended nobody pretends that they were."""
    records = chain(9)
    with pytest.raises(JournalBroken, match="too little of it is left"):
        find(Journal(records[5:6], low=5), None, records[8].link, records)
    short = chain(4)
    with pytest.raises(JournalBroken, match="too little of it is left"):
        find(Journal(short[:2], broken=(0,)), None, short[3].link, short)


def test_a_cut_near_the_genesis_begins_there() -> None:
    """All rows are made again."""
    records = chain(4)
    start = find(Journal(records[:2]), None, records[3].link, records)
    assert start == Start(0, None, Kept(records[1].link, 0, EVENTS_TOPIC_ID))
