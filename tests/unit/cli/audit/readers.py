"""Doubles of what the audit reads: a log in memory, and tables that hold frames."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

import polars as pl
from tests.support.journal import Writer

from meterstream.cli.audit.block import Block, make_block, open_record
from meterstream.cli.audit.follow import Corrupt, End, Raw
from meterstream.cli.audit.ledger import COLUMNS
from meterstream.cli.audit.scope import Segment, ValidRecord
from meterstream.cli.audit.tables import Span, Watermark
from meterstream.schemas.journal import Link
from meterstream.sinks.record import JournalRecord


class MemoryLog:
    """A journal partition as a list; more may arrive while it is read."""

    def __init__(self, *found: Raw | Corrupt) -> None:
        self._found = list(found)

    def arrive(self, *found: Raw | Corrupt) -> None:
        """Append to the log."""
        self._found.extend(found)

    def next(self) -> Raw | Corrupt | End:
        """Return what comes next."""
        if not self._found:
            return End(0)
        return self._found.pop(0)


def raw(record: JournalRecord, *, header: bytes | None = None, value: bytes | None = None) -> Raw:
    """Return a record as the broker gives it, with another header or value if asked."""
    return Raw(
        record.offset,
        record.timestamp_us,
        record.header.pack() if header is None else header,
        record.value if value is None else value,
    )


def valid(record: JournalRecord) -> ValidRecord:
    """Return a record as one that the chain has confirmed."""
    return ValidRecord(
        Segment.of(record.header, record.partition),
        record.offset,
        record.timestamp_us,
        record.header,
        record.value,
        record.link.clock_us,
    )


def block(*records: JournalRecord) -> Block:
    """Return the block of these records."""
    return make_block([open_record(valid(record)) for record in records])


def begun(**settings: int) -> tuple[Writer, JournalRecord]:
    """Return a writer of journal records, and its genesis record."""
    writer = Writer(**settings)  # type: ignore[arg-type]
    return writer, writer.genesis(0)


@dataclass
class FakeTables:
    """Tables that hold what a test puts into them; the rest is empty."""

    positions: dict[str, list[tuple[int, int] | None]] = field(default_factory=dict)
    """Answers by feed; the last one stays."""
    ledger_rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=COLUMNS))
    charge_rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    asked: list[Span] = field(default_factory=list)

    def position(self, feed: str, partition: int) -> tuple[int, int] | None:
        answers = self.positions.get(feed, [None])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def oldest_link(self, partition: int, log_start: int) -> Link | None:
        return None

    def ledger(self, segment: Segment, first: int, last: int) -> pl.DataFrame:
        return self.ledger_rows.filter(pl.col("journal_offset").is_between(first, last))

    def charges(
        self, table: str, segment: Segment, span: Span, *, outside: bool = False
    ) -> pl.DataFrame:
        self.asked.append(span)
        within = pl.lit(False)
        if span.first_us is not None:
            within = pl.col("event_time").is_between(span.first_us, span.last_us)
        offsets = pl.col("event_offset").is_between(span.start, span.end - 1)
        return self.charge_rows.filter(offsets & (~within if outside else within))

    def charges_elsewhere(
        self, table: str, segment: Segment, span: Span, journal: tuple[int, int], limit: int
    ) -> pl.DataFrame:
        outside = ~pl.col("event_offset").is_between(span.start, span.end - 1)
        claimed = pl.col("journal_offset").is_between(*journal)
        return self.charge_rows.filter(outside & claimed).head(limit)

    def charge_total(self, table: str, segment: Segment, span: Span) -> int:
        within = pl.col("event_offset").is_between(span.start, span.end - 1)
        return self.charge_rows.filter(within).height

    def watermark(self, segment: Segment) -> Watermark:
        return Watermark()

    def cells(self, table: str, segment: Segment, from_s: int, until_s: int) -> pl.DataFrame:
        return pl.DataFrame()

    def quarters_before(self, segment: Segment, journal_offset: int) -> pl.Series:
        return pl.Series("old", [], pl.Int64)

    def sessions(
        self, partition: int, topic_ids: Collection[UUID], generation: int
    ) -> pl.DataFrame:
        return pl.DataFrame()

    def strangers(self, table: str) -> pl.DataFrame:
        return pl.DataFrame()

    def refused_rows(self) -> int:
        return 0

    def kept_days(self, table: str) -> int | None:
        return None

    def now_s(self) -> int:
        return 0


def texts(findings: Iterable[object]) -> list[str]:
    """Return findings as they are printed."""
    return [str(finding) for finding in findings]
