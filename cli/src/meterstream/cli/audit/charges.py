"""Charges: each has exactly one row, and those of runs one more in the history."""

from typing import Final

import polars as pl

from meterstream.schemas.rows import CHARGE_COMPONENTS, SESSION_OPERATION
from meterstream.schemas.times import format_rfc3339, from_us

from .block import Block, Charged
from .columns import KEYS
from .compare import compare
from .findings import SHOWN, Finding, Findings
from .scope import Segment
from .tables import Span, Tables
from .ttl import without_removed

KEY: Final = ["event_offset"]
COMPONENTS: Final = [column.name for column in CHARGE_COMPONENTS]
PRICED: Final = ["card", "credits_micro", "line", "multiplier_ppm", "amount_micro", "cost_micro"]
RUN_COMPONENTS: Final = [name for name in COMPONENTS if name != "session_micro"]
CHARGE_VALUES: Final = [
    "event_time", *KEYS, "late", *PRICED, *COMPONENTS, "session_us", "session_id",
    "journal_offset",
]  # fmt: skip
RUN_VALUES: Final = ["event_time", "team_id", *PRICED, *RUN_COMPONENTS]
VALUES: Final = {"charges": CHARGE_VALUES, "runs": RUN_VALUES}


class ChargeCheck:
    """Compares one table of charged runs with the chain, block by block, for one segment.

    Rows of a block are looked for between the event times of its charges, where ClickHouse finds
    them quickly. `finish` looks at all other times, if the table holds more than was found so.
    """

    def __init__(self, table: str, segment: Segment, kept_after_s: int) -> None:
        self.table = table
        self._segment = segment
        self._kept_after_s = kept_after_s
        self._found = 0
        self._spans: list[Span] = []

    def block(self, block: Block, charged: Charged, tables: Tables, findings: Findings) -> None:
        """Compare the charges of a block."""
        expected = charged.rows
        if self.table == "runs":
            expected = expected.filter(pl.col("operation") != SESSION_OPERATION)
        times = expected.select(first=pl.col("event_time").min(), last=pl.col("event_time").max())
        span = Span(block.events_from, block.events_to, *times.row(0))
        self._spans.append(span)
        if not len(expected):
            return
        found = tables.charges(self.table, self._segment, span)
        self._found += len(found)
        expected = without_removed(self.table, expected, found, KEY, self._kept_after_s, findings)
        findings.compared[self.table] += len(expected)
        difference = compare(expected, found, KEY, VALUES[self.table], limit=SHOWN)
        for row in difference.rows:
            source = found if row.kind == "extra" else expected
            self._report(row.key["event_offset"], source, str(row), findings)
        findings.more(self.table, difference.count - len(difference.rows))

    def finish(self, tables: Tables, first: int, last: int, findings: Findings) -> None:
        """Report the rows that no block could find.

        They stand at event times where the journal has no charge of their offsets, or at other
        offsets, although they claim to be of the records from `first` to `last`.
        """
        if not self._spans:
            return
        whole = Span(self._spans[0].start, self._spans[-1].end)
        elsewhere = tables.charges_elsewhere(
            self.table, self._segment, whole, (first, last), SHOWN + 1
        )
        for offset in elsewhere["event_offset"].to_list():
            self._report(offset, elsewhere, "the row does not follow from the journal", findings)
        if tables.charge_total(self.table, self._segment, whole) == self._found:
            return
        for span in self._spans:
            extra = tables.charges(self.table, self._segment, span, outside=True)
            for offset in extra["event_offset"].head(SHOWN).to_list():
                self._report(offset, extra, "the row does not follow from the journal", findings)
            findings.more(self.table, max(0, len(extra) - SHOWN))

    def _report(self, offset: int, source: pl.DataFrame, text: str, findings: Findings) -> None:
        one = source.filter(pl.col("event_offset") == offset).row(0, named=True)
        at = format_rfc3339(from_us(one["event_time"]))
        findings.add(
            Finding(
                self.table,
                self.table,
                self._segment.partition,
                f"event offset {offset} ({one['team_id']}, {at})",
                text,
            )
        )
