"""Journal records made by hand, as the meter would write them, for tests of their readers."""

import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pyarrow as pa

from meterstream.schemas import rows
from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import Chain, Header, Kind, Section, pack_sections
from meterstream.schemas.journal.header import NONE
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.record import Decoded, JournalRecord, decode

EVENTS_TOPIC_ID = UUID("11111111-2222-3333-4444-555555555555")
JOURNAL_TOPIC_ID = UUID("aaaaaaaa-2222-3333-4444-555555555555")

MINUTE_US = 60_000_000
DAY_US = 24 * 60 * MINUTE_US
GRACE_US = 10 * MINUTE_US

TODAY_US = time.time_ns() // 1000 // DAY_US * DAY_US
"""Midnight, UTC. Rows far in the past would be removed by their TTL."""

Row = Mapping[str, object]


def arrow(columns: Sequence[rows.Column], given: Iterable[Row]) -> bytes:
    """Return an Arrow section with one row for each of `given`; what it leaves out is empty."""
    empty = {"text": "", "sketch": {}}
    filled = [
        {
            column.name: (list(value.items()) if isinstance(value, dict) else value)
            for column in columns
            for value in [row.get(column.name, empty.get(column.kind, 0))]
        }
        for row in given
    ]
    table = pa.Table.from_pylist(filled, arrow_schema(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def cell(minute_us: int, **values: object) -> dict[str, object]:
    """Return a cell of the minute that starts at `minute_us`: one run of team-1 if not told."""
    return {
        "window_start": minute_us // 1_000_000,
        "team_id": "team-1",
        "operation": "agent_run",
        "runs": 1,
        "latency_sketch": {50: 1},
        **values,
    }


def limit(window_us: int, **values: object) -> dict[str, object]:
    """Return where a limit of a day stands: a hard one of five runs of team-1 that blocks."""
    return {
        "team_id": "team-1",
        "limit_id": "l-1",
        "limit_version": 1,
        "subject": "team",
        "measure": "runs",
        "window": "day",
        "window_start": window_us,
        "window_end": window_us + DAY_US,
        "amount": 5,
        "enforcement": "hard",
        "used": 5,
        "blocked": 1,
        **values,
    }


def crossing(window_us: int, **values: object) -> dict[str, object]:
    """Return what is told of that limit: a level that an event reached."""
    return {
        "kind": "reached",
        "team_id": "team-1",
        "limit_id": "l-1",
        "limit_version": 1,
        "subject": "team",
        "subject_id": None,
        "measure": "runs",
        "window": "day",
        "window_start_us": window_us,
        "window_end_us": window_us + DAY_US,
        "amount": 5,
        "used": 4,
        "level_permille": 800,
        "cause": {"offset": 7, "source": "/tests", "id": "e-7"},
        **values,
    }


@dataclass
class Writer:
    """Writes the chain of one partition; each call returns the next record, decoded or raw."""

    partition: int = 0
    clock_us: int = 0
    events_position: int = 0
    generation: int = 1
    events_topic_id: UUID = EVENTS_TOPIC_ID
    next_offset: int = 0
    prev: int = NONE
    leader_epoch: int = 0
    grace_seconds: int = GRACE_US // 1_000_000
    chain: Chain = field(default_factory=Chain)

    def record(
        self,
        kind: Kind = Kind.STEP,
        *,
        verdicts: Sequence[Verdict] = (),
        sections: Mapping[Section, bytes] | None = None,
        clock_us: int | None = None,
        timestamp_us: int | None = None,
    ) -> JournalRecord:
        """Return a valid record, and go on after it."""
        self.clock_us = max(self.clock_us, clock_us or 0)
        found = dict(sections or {})
        if verdicts:
            found[Section.VERDICTS] = bytes(verdicts)
        value = pack_sections(found)
        header = Header(
            kind=kind,
            grace_seconds=self.grace_seconds,
            generation=self.generation,
            events_topic_id=self.events_topic_id,
            journal_topic_id=JOURNAL_TOPIC_ID,
            prev=self.prev,
            events_from=self.events_position,
            events_to=self.events_position + len(verdicts),
            control_to=0,
            catalog_to=0,
            clock_us=self.clock_us,
            clock_limit_us=2**62,
            last_event_offset=NONE,
            last_event_time_us=0,
            last_event_hash=0,
            last_event_epoch=NONE,
            value_crc32=zlib.crc32(value),
        )
        offset = self.next_offset
        stamp_us = self.clock_us if timestamp_us is None else timestamp_us
        assert self.chain.take(offset, stamp_us, header), "the writer continues its own chain"
        link = self.chain.link
        assert link is not None
        self.next_offset, self.prev = link.next_offset, link.prev
        self.events_position, self.clock_us = link.events_position, link.clock_us
        return JournalRecord(
            self.partition, offset, stamp_us, self.leader_epoch, header, value, link
        )

    def skip_to(self, offset: int) -> None:
        """Leave the offsets before `offset` to others."""
        self.chain.skip_to(offset)
        self.next_offset = offset

    def genesis(self, clock_us: int) -> JournalRecord:
        """Return a genesis record."""
        return self.record(
            Kind.GENESIS,
            clock_us=clock_us,
            sections={Section.GENESIS: json.dumps({"carried": {}}).encode()},
        )

    def new_generation(self, clock_us: int) -> JournalRecord:
        """Return the genesis of the next generation."""
        self.generation += 1
        return self.genesis(clock_us)

    def idle(self, clock_us: int) -> JournalRecord:
        """Return an idle record whose log time moves the clock to `clock_us`."""
        return self.record(Kind.IDLE, timestamp_us=clock_us)

    def step(
        self,
        cells: Sequence[Row] = (),
        *,
        clock_us: int | None = None,
        late: Sequence[Row] = (),
        charges: Sequence[Row] = (),
        sessions: Sequence[Row] = (),
        limits: Sequence[Row] = (),
        crossings: Sequence[Row] = (),
        verdicts: Sequence[Verdict] | None = None,
    ) -> JournalRecord:
        """Return a step. Late cells stand for themselves in the minutes, quarters and days."""
        sections: dict[Section, bytes] = {}
        if cells:
            sections[Section.CELLS] = arrow(rows.CELL, cells)
        if late:
            sections[Section.LATE_MINUTES] = arrow(rows.CELL, late)
            sections[Section.LATE_QUARTERS] = arrow(rows.CELL, _folded(late, 900))
            sections[Section.LATE_DAYS] = arrow(rows.CELL, _folded(late, 86_400))
        if charges:
            sections[Section.CHARGES] = arrow(rows.CHARGE, charges)
        if sessions:
            sections[Section.SESSIONS] = arrow(rows.SESSION, sessions)
        if limits:
            sections[Section.LIMIT_STATES] = arrow(rows.LIMIT_STATE, limits)
        if crossings:
            sections[Section.CROSSINGS] = json.dumps(crossings).encode()
        counted = len(charges) or sum(int(str(row.get("runs", 0))) for row in [*cells, *late])
        return self.record(
            verdicts=[Verdict.COUNTED] * counted if verdicts is None else verdicts,
            sections=sections,
            clock_us=clock_us,
        )


def _folded(late: Sequence[Row], width_s: int) -> list[Row]:
    """Return `late` with starts of wider windows; rows of one key must not fall together."""
    moved: list[Row] = [
        {**row, "window_start": int(str(row["window_start"])) // width_s * width_s} for row in late
    ]
    keys = [tuple(str(row.get(column.name, "")) for column in rows.CELL_KEY) for row in moved]
    assert len(set(keys)) == len(keys), "late rows of one coarse cell: fold them in the test"
    return moved


def decoded(*records: JournalRecord) -> list[Decoded]:
    """Return the rows of `records`."""
    return [decode(record) for record in records]
