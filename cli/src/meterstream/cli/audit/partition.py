"""The audit of one partition: its chain, and what ClickHouse makes of it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

import polars as pl

from meterstream.schemas.journal import Kind, Link
from meterstream.schemas.verdicts import LEDGER_CLASSES

from .block import Block, Charged, blocks, charged
from .charges import ChargeCheck
from .dead_letters import Refusals
from .feed import CELLS, HISTORY, Feed
from .findings import Finding, Findings
from .follow import Follower, RecordLog
from .ledger import check_ledger, check_ranges, no_record, verdict_totals
from .patience import Patience
from .scope import Bounds, Segment
from .sessions import Sessions
from .tables import Tables
from .ttl import kept_after
from .usage import AsOf, Usage
from .verify import CHECKS, Wrong, check_cell_numbers

CHAIN: Final = "chain"
LAST_OFFSET: Final = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """One partition and its logs as the broker had them when the audit began."""

    partition: int
    events: Bounds
    journal: Bounds
    events_topic_id: UUID
    topic: str
    """The full name of the journal topic."""


@dataclass
class Totals:
    """What became of a partition's offsets, as the chain says."""

    start: int = 0
    end: int = 0
    """The event offsets in scope: [start, end)."""
    verdicts: Counter[str] = field(default_factory=Counter)
    in_ledger: int = 0
    """Offsets in scope that rows of the ledger in ClickHouse hold."""
    records: int = 0
    void_records: int = 0
    journal_offset: int = -1

    @property
    def offered(self) -> int:
        """Offsets that the broker gave out."""
        return self.end - self.start

    @property
    def difference(self) -> int:
        """Offsets without exactly one verdict in the chain and in the ledger."""
        decided = self.offered - self.verdicts.total()
        return abs(decided) + abs(self.verdicts.total() - self.in_ledger)


@dataclass
class _Segment:
    """What is kept of one segment while its records are read."""

    usage: Usage
    charges: dict[str, ChargeCheck]
    from_genesis: bool
    first: int
    """Journal offset of its first record in scope."""
    events_from: int
    last: int = -1
    """Journal offset of its last record in scope, -1 if there is none."""
    events_to: int = 0
    can_compare: bool = True
    """Whether its charges could be brought together with its cells."""

    @property
    def as_of(self) -> AsOf:
        return AsOf(-1 if self.from_genesis else self.first, self.last, self.from_genesis)


class PartitionAudit:
    """Audits one partition. `totals` hold what the chain said."""

    def __init__(
        self,
        place: Place,
        tables: Tables,
        patience: Patience,
        refusals: Refusals,
        findings: Findings,
        scratch: Path,
    ) -> None:
        self._place = place
        self._tables = tables
        self._patience = patience
        self._findings = findings
        self._scratch = scratch
        self._segments: dict[Segment, _Segment] = {}
        self._sessions = Sessions()
        self._feeds = {
            feed: Feed(feed, place.partition, tables, patience, findings)
            for feed in (CELLS, HISTORY)
        }
        self._ledger_from = -1
        self._newer_offsets: set[int] = set()
        self._decided_to = 0
        self.totals = Totals()
        self.refusals = refusals

    def run(self, log: RecordLog, link: Link | None) -> None:
        """Follow the chain from `link`, or from its genesis, and compare."""
        place = self._place
        follower = Follower(log, place.partition, place.topic, self._findings, link)
        if link is not None:
            self._ledger_from = link.next_offset
        for block in blocks(follower.read(self._is_done, self._wait(follower)), follower.reject):
            self._take(block)
        follower.finish()
        self._count(follower)
        decided = range(self.totals.start, self._decided_to)
        self.refusals.covers(place.events_topic_id, place.partition, decided)
        if follower.is_broken:
            self._findings.note(
                f"partition {place.partition}: cells and sessions are not compared, since the"
                " chain is broken"
            )
        for segment, kept in self._segments.items():
            for check in kept.charges.values():
                check.finish(self._tables, kept.as_of.first, kept.last, self._findings)
            if not kept.from_genesis:
                self._check_before(segment, kept)
        if self._feeds[CELLS].reached and not follower.is_broken:
            self._check_state(follower)
        self.totals.void_records = follower.void_records

    def _is_done(self, follower: Follower) -> bool:
        if follower.position < self._place.journal.end:
            return False
        link = follower.link
        if link is None:
            return follower.looks_ahead or self._place.events.end == self._place.events.start
        return link.events_position >= self._place.events.end

    def _wait(self, follower: Follower) -> Callable[[], bool]:
        def wait() -> bool:
            return self._patience.wait(
                f"partition {self._place.partition}: the meter is"
                f" {self._behind(follower):,} events behind"
            )

        return wait

    def _behind(self, follower: Follower) -> int:
        start = self._place.events.start
        return self._place.events.end - (follower.link.events_position if follower.link else start)

    def _take(self, block: Block) -> None:
        """Check a block of the scope."""
        findings, segment = self._findings, block.segment
        kept = self._segments.get(segment)
        if kept is None:
            kept = self._segments[segment] = self._begin(block)
        kept.last, kept.events_to = int(block.offsets[-1]), block.events_to
        findings.compared[CHAIN] += len(block.records)
        self.totals.records += len(block.records)
        if segment.events_topic_id == self._place.events_topic_id:
            self.totals.verdicts.update(verdict_totals(block))
        self.refusals.add(block)
        self._sessions.add(block, newer=False)
        rows = self._add(block, kept)
        if self._feeds[CELLS].reach(segment.generation, kept.last):
            found = check_ledger(block, self._ledger_from, self._tables, findings)
            if segment.events_topic_id == self._place.events_topic_id:
                self.totals.in_ledger += int(found.select(LEDGER_CLASSES).to_numpy().sum())
            if rows is not None:
                kept.charges["charges"].block(block, rows, self._tables, findings)
        self._ledger_from = kept.last + 1
        if rows is not None and self._feeds[HISTORY].reach(segment.generation, kept.last):
            kept.charges["runs"].block(block, rows, self._tables, findings)

    def _begin(self, block: Block) -> _Segment:
        segment, first = block.segment, block.records[0]
        directory = self._scratch / f"{self._place.partition}-{segment.generation}"
        return _Segment(
            Usage(segment, directory, self._place.topic),
            {
                table: ChargeCheck(table, segment, kept_after(self._tables, table))
                for table in ("charges", "runs")
            },
            first.header.kind is Kind.GENESIS,
            first.offset,
            block.events_from,
        )

    def _add(self, block: Block, kept: _Segment) -> Charged | None:
        """Check a block in itself and keep its cells; None if its charges have no cells."""
        for check in CHECKS:
            self._report_chain(check(block))
        misplaced = list(check_cell_numbers(block))
        if misplaced:
            self._report_chain(misplaced)
            kept.can_compare = False
            return None
        rows = charged(block)
        kept.usage.add(block, rows, self._findings)
        return rows

    def _report_chain(self, wrong: Iterable[Wrong]) -> None:
        for offset, text in wrong:
            place = self._place
            self._findings.add(
                Finding(CHAIN, place.topic, place.partition, f"offset {offset}", text)
            )

    def _count(self, follower: Follower) -> None:
        """Set what was offered, and report what no record decides, or more than one."""
        place, totals = self._place, self.totals
        totals.start = totals.end = place.events.start
        position: int | None = None
        for segment, kept in self._segments.items():
            if segment.events_topic_id != place.events_topic_id:
                position = place.events.start  # the topic was made again after this segment
                continue
            if position is None:
                # The first generation begins where the log began, which may be gone by now.
                is_first = kept.from_genesis and segment.generation == 1
                position = kept.events_from
                if is_first:
                    position = min(position, place.events.start)
                totals.start = position
            self._report_seam(position, kept.events_from, segment)
            position = totals.end = kept.events_to
            totals.journal_offset = kept.last
        self._decided_to = totals.end
        if totals.end < place.events.end:
            behind = place.events.end - totals.end
            totals.end = place.events.end
            self._findings.add(
                Finding(
                    CHAIN,
                    place.topic,
                    place.partition,
                    f"events {totals.end - behind} to {totals.end}",
                    "no valid record decides them: the meter is"
                    f" {behind:,} events behind after {self._patience.timeout_s:.0f} s"
                    if not follower.is_broken
                    else "no record that can be trusted decides them",
                )
            )

    def _report_seam(self, before: int, start: int, segment: Segment) -> None:
        """Report offsets between two generations that none, or both of them, decided."""
        if start == before:
            return
        place = self._place
        first, last = sorted((before, start))
        text = "are decided by no record" if start > before else "are decided by two generations"
        self._findings.add(
            Finding(
                CHAIN, place.topic, place.partition, f"events {first} to {last}",
                f"{text}: {segment} begins at {start}",
            )
        )  # fmt: skip

    def _check_before(self, segment: Segment, kept: _Segment) -> None:
        """Check the ranges of the ledger that the journal no longer holds: they must join."""
        rows = self._tables.ledger(segment, -1, kept.first - 1)
        if len(rows):
            start = int(rows.sort("journal_offset")["events_from"][0])
            self._findings.add_all(check_ranges(rows, start, kept.events_from, segment.partition))
            self._findings.note(
                f"partition {segment.partition}: events {start} to {kept.events_from} are older"
                " than the journal; the ledger alone vouches for them"
            )

    def _check_state(self, follower: Follower) -> None:
        """Compare what the chain adds up to: cells, sessions, and ledger rows without a record."""
        for segment, kept in list(self._segments.items()):
            if kept.last < 0:
                continue
            newer = self._tables.ledger(segment, kept.last + 1, LAST_OFFSET)
            if len(newer):
                self._read_to(follower, int(newer["journal_offset"].max()))  # type: ignore[arg-type]
                extra = newer.filter(~pl.col("journal_offset").is_in(list(self._newer_offsets)))
                self._findings.add_all(
                    [no_record(row, segment) for row in extra.iter_rows(named=True)]
                )
            if kept.can_compare:
                kept.usage.check(
                    self._tables,
                    kept.as_of,
                    lambda offset: self._read_to(follower, offset),
                    self._findings,
                )
        ids = {segment.events_topic_id for segment in self._segments}
        # A journal that was made again knows nothing of the generations before.
        oldest = min((segment.generation for segment in self._segments), default=0)
        sessions = self._tables.sessions(self._place.partition, ids, oldest)
        if len(sessions):
            self._read_to(follower, int(sessions["journal_offset"].max()))  # type: ignore[arg-type]
        first = min((kept.as_of.first for kept in self._segments.values()), default=-1)
        self._sessions.check(self._place.partition, sessions, first, self._findings)

    def _read_to(self, follower: Follower, offset: int) -> None:
        """Follow the chain beyond the scope, up to the record at `offset` if it is there."""
        if follower.position > offset:
            return
        records = follower.read(lambda f: f.position > offset, lambda: False)
        for block in blocks(records, follower.reject):
            kept = self._segments.get(block.segment)
            if kept is None:
                kept = self._segments[block.segment] = self._begin(block)
            self._add(block, kept)
            self._sessions.add(block, newer=True)
            self._newer_offsets.update(block.offsets.tolist())
