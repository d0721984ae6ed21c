"""The loss ledger: what each journal record decided, and the same from ClickHouse."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from meterstream.schemas.journal import Kind, Section
from meterstream.schemas.verdicts import (
    LEDGER_CLASSES,
    REJECTED,
    Verdict,
    ledger_class,
    reason_name,
)

from .block import Block
from .compare import Unequal, compare
from .findings import SHOWN, Finding, Findings
from .scope import Segment
from .tables import Tables

KEY: Final = ["journal_offset"]
COLUMNS: Final = {
    "journal_offset": pl.Int64,
    "journal_prev": pl.Int64,
    "kind": pl.String,
    "events_from": pl.Int64,
    "events_to": pl.Int64,
    **dict.fromkeys(LEDGER_CLASSES, pl.Int64),
    "rejected_reasons": pl.String,
    "charged_runs": pl.Int64,
    "charged_micro": pl.Int64,
    "clock_us": pl.Int64,
    "log_time_us": pl.Int64,
}
"""A ledger row as it is compared; reasons as text, such as `empty=1 not_json=2`."""


def expected_rows(block: Block) -> pl.DataFrame:
    """Return the ledger rows of a block's records; idle records have none."""
    charges = block.frames[Section.CHARGES]
    record = charges["record"].to_numpy()
    runs = np.bincount(record, minlength=len(block.records))
    micro = np.zeros(len(block.records), np.int64)
    np.add.at(micro, record, charges["credits_micro"].to_numpy())
    rows: list[dict[str, Any]] = []
    end = 0
    for i, one in enumerate(block.records):
        start, end = end, end + int(block.verdict_counts[i])
        if one.header.kind is Kind.IDLE:
            continue
        counts = dict.fromkeys(LEDGER_CLASSES, 0)
        reasons: dict[str, int] = {}
        tally = np.bincount(block.verdicts[start:end], minlength=1)
        for verdict in np.flatnonzero(tally).tolist():
            counts[ledger_class(verdict)] += int(tally[verdict])
            if verdict >= REJECTED:
                reasons[reason_name(verdict)] = int(tally[verdict])
        rows.append(
            {
                "journal_offset": one.offset,
                "journal_prev": one.header.prev,
                "kind": one.header.kind.name.lower(),
                "events_from": one.header.events_from,
                "events_to": one.header.events_to,
                **counts,
                "rejected_reasons": reasons_text(reasons),
                "charged_runs": int(runs[i]),
                "charged_micro": int(micro[i]),
                "clock_us": one.clock_us,
                "log_time_us": one.timestamp_us,
            }
        )
    return pl.DataFrame(rows, schema=COLUMNS)


def reasons_text(reasons: dict[str, int]) -> str:
    """Return counts by reason as text in the order of the reasons."""
    return " ".join(f"{reason}={count}" for reason, count in sorted(reasons.items()))


def check_ledger(block: Block, first: int, tables: Tables, findings: Findings) -> pl.DataFrame:
    """Compare the ledger with the records of a block; return the rows that ClickHouse has.

    They are looked for from the journal offset `first`, past the block before, to the last record.
    """
    expected = expected_rows(block)
    found = tables.ledger(block.segment, first, int(block.offsets[-1]))
    findings.compared["ledger"] += len(expected)
    difference = compare(
        expected, found, KEY, [name for name in COLUMNS if name not in KEY], limit=SHOWN
    )
    for row in difference.rows:
        findings.add(_finding(block, row, expected, found))
    findings.more("ledger", difference.count - len(difference.rows))
    return found


def no_record(row: dict[str, Any], segment: Segment) -> Finding:
    """Return the finding of a ledger row that no valid record of the journal stands behind."""
    return Finding(
        "ledger",
        "ledger",
        segment.partition,
        f"events {row['events_from']} to {row['events_to']} (journal offset"
        f" {row['journal_offset']})",
        "no valid record of the journal decides the range",
    )


def _finding(block: Block, row: Unequal, expected: pl.DataFrame, found: pl.DataFrame) -> Finding:
    offset = row.key["journal_offset"]
    source = found if row.kind == "extra" else expected
    one = source.row(by_predicate=pl.col("journal_offset") == offset, named=True)
    if row.kind == "extra":
        return no_record(one, block.segment)
    return Finding(
        "ledger",
        "ledger",
        block.segment.partition,
        f"events {one['events_from']} to {one['events_to']} (journal offset {offset})",
        "the range is missing" if row.kind == "missing" else str(row),
    )


def check_ranges(rows: pl.DataFrame, start: int, end: int, partition: int) -> Iterator[Finding]:
    """The ranges of the ledger rows, by journal offset, cover [start, end) once.

    `rows` are those of one segment. What is not covered, or covered twice, is named.
    """
    position = start
    for row in rows.sort("journal_offset").iter_rows(named=True):
        if row["kind"] == "genesis":
            position = row["events_from"]
        if row["events_from"] > position:
            yield _range(partition, position, row["events_from"], "no range of the ledger holds it")
        elif row["events_from"] < position:
            yield _range(
                partition,
                row["events_from"],
                position,
                "more than one range of the ledger holds it",
            )
        position = max(position, row["events_to"])
    if position < end:
        yield _range(partition, position, end, "no range of the ledger holds it")


def _range(partition: int, first: int, last: int, text: str) -> Finding:
    return Finding("ledger", "ledger", partition, f"events {first} to {last}", text)


def verdict_totals(block: Block) -> dict[str, int]:
    """Return the offsets of a block by verdict."""
    tally = np.bincount(block.verdicts, minlength=1)
    return {Verdict(v).name.lower(): int(tally[v]) for v in np.flatnonzero(tally).tolist()}
