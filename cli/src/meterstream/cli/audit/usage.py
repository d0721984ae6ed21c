"""Cells: minutes as the chain's last word, and the coarse rows that follow from them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from meterstream.schemas.journal import Section
from meterstream.schemas.pricing import UNPRICED
from meterstream.schemas.rows import SESSION_OPERATION

from .block import Block, Charged, cells_of
from .columns import KEYS, VALUES
from .compare import GROUP, compare, grouped, last_of_each
from .findings import SHOWN, Finding, Findings
from .fold import IDENTITY, fold
from .places import cell_place
from .scope import Segment
from .spill import Spill
from .tables import FOREVER_S, Tables, Watermark
from .ttl import kept_after, without_removed

QUARTER_S: Final = 900
DAY_S: Final = 86_400
CHARGED: Final = {
    "runs": "charged_runs",
    "unpriced_runs": "charged_unpriced",
    "credits_micro": "charged_micro",
    "session_us": "charged_session_us",
    "amount_micro": "charged_amount_micro",
    "cost_micro": "charged_cost_micro",
}
"""Sums of a cell that its charges, and the corrections of its runs, must explain."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """What is in scope: the records from `first` (journal offset) to `last`, both included."""

    first: int
    last: int
    from_genesis: bool


@dataclass(frozen=True, slots=True)
class _Live:
    """Rows of a range, as the chain has them."""

    on_time: pl.DataFrame
    """On-time cells in all their versions, grouped and in the order of the journal."""
    late: pl.DataFrame


class Usage:
    """The cells of one segment."""

    def __init__(self, segment: Segment, directory: Path, journal: str) -> None:
        self.segment = segment
        self._journal = journal
        self._minutes = Spill(directory / "minutes", QUARTER_S)
        self._late_quarters = Spill(directory / "late-quarters", QUARTER_S)
        self._late_days = Spill(directory / "late-days", DAY_S)
        self._closed_quarters = Spill(directory / "quarters", DAY_S)

    def add(self, block: Block, charged: Charged, findings: Findings) -> None:
        """Keep the cells of a block, each with what its charges and corrections add up to."""
        cells = block.frames[Section.CELLS]
        late = block.frames[Section.LATE_MINUTES]
        total = len(cells) + len(late)
        sums = {name: np.zeros(total, np.int64) for name in CHARGED.values()}
        is_run = charged.rows["operation"] != SESSION_OPERATION
        unpriced = charged.rows["card"] == UNPRICED
        np.add.at(sums["charged_runs"], charged.cell, is_run.to_numpy().astype(np.int64))
        np.add.at(sums["charged_unpriced"], charged.cell, unpriced.to_numpy().astype(np.int64))
        for name in ("credits_micro", "session_us", "amount_micro", "cost_micro"):
            np.add.at(sums[CHARGED[name]], charged.cell, charged.rows[name].to_numpy())
        corrections = block.frames[Section.CORRECTIONS]
        corrected, _ = cells_of(block, Section.CORRECTIONS)
        for name, by in CHARGED.items():
            np.add.at(sums[by], corrected, corrections[name].to_numpy())
        for frame, part, is_late in (
            (cells, slice(0, len(cells)), False),
            (late, slice(len(cells), total), True),
        ):
            kept = _placed(block, frame, is_late).with_columns(
                pl.Series(name, values[part]) for name, values in sums.items()
            )
            self._minutes.add(kept)
            if is_late:
                findings.add_all(self._unexplained(kept))
        self._late_quarters.add(_placed(block, block.frames[Section.LATE_QUARTERS], True))
        self._late_days.add(_placed(block, block.frames[Section.LATE_DAYS], True))

    def check(
        self, tables: Tables, as_of: AsOf, read_to: Callable[[int], None], findings: Findings
    ) -> None:
        """Compare all grains with ClickHouse.

        Rows may be newer than `as_of`: then `read_to` brings the chain's records up to a journal
        offset, and the row must be what one of them says.
        """
        watermark = tables.watermark(self.segment)
        read_to(watermark.journal_position - 1)
        kept_after_s = kept_after(tables, "usage_minutes")
        old = pl.Series("old", [], pl.Int64)
        if not as_of.from_genesis:
            old = tables.quarters_before(self.segment, as_of.first)
        for from_s, until_s in _covering(list(self._minutes.ranges())):
            found = tables.cells("usage_minutes", self.segment, from_s, until_s)
            read_to(_highest(found))
            live = self._load(from_s, until_s)
            findings.add_all(self._unexplained(self._changes(live.on_time, as_of)))
            self._check_minutes(live, found, as_of, kept_after_s, findings)
            quarters = tables.cells("usage_quarters", self.segment, from_s, until_s)
            read_to(_highest(quarters))
            self._check_quarters(live, quarters, as_of, watermark, (from_s, until_s), old, findings)
        self._check_days(tables, as_of, watermark, old, read_to, findings)

    def _load(self, from_s: int, until_s: int) -> _Live:
        rows = self._minutes.load(from_s, until_s)
        if rows is None:
            rows = _NO_MINUTES
        on_time = pl.col("late") == -1
        return _Live(grouped(rows.filter(on_time), KEYS, "journal_offset"), rows.filter(~on_time))

    def _changes(self, on_time: pl.DataFrame, as_of: AsOf) -> pl.DataFrame:
        """Return the versions with what each added to the one before in place of its sums."""
        is_first = (pl.col(GROUP) != pl.col(GROUP).shift()).fill_null(True)
        changes = on_time.with_columns(
            is_first.alias("is_first"),
            *(pl.col(n) - pl.when(is_first).then(0).otherwise(pl.col(n).shift()) for n in CHARGED),
        )
        # What a cell held before the journal's beginning is not known.
        return changes if as_of.from_genesis else changes.filter(~pl.col("is_first"))

    def _unexplained(self, changes: pl.DataFrame) -> Iterator[Finding]:
        wrong = changes.filter(
            pl.any_horizontal(pl.col(name) != pl.col(by) for name, by in CHARGED.items())
        )
        for row in wrong.head(SHOWN).iter_rows(named=True):
            named = ", ".join(
                f"{name} by {row[name]:,} where its charges make {row[by]:,}"
                for name, by in CHARGED.items()
                if row[name] != row[by]
            )
            yield self._chain_finding(
                row["journal_offset"], f"changes the cell {cell_place(row)} in {named}"
            )
        if len(wrong) > SHOWN:
            yield self._chain_finding(
                int(wrong["journal_offset"][SHOWN]), f"and {len(wrong) - SHOWN:,} cells more"
            )

    def _chain_finding(self, journal_offset: int, text: str) -> Finding:
        return Finding(
            "chain", self._journal, self.segment.partition, f"offset {journal_offset}", text
        )

    def _check_minutes(
        self, live: _Live, found: pl.DataFrame, as_of: AsOf, kept_after_s: int, findings: Findings
    ) -> None:
        every = pl.concat([live.on_time.drop(GROUP), live.late])
        newer = pl.col("journal_offset") > as_of.last
        on_time = last_of_each(live.on_time.filter(~newer)).drop(GROUP)
        must = pl.concat([on_time, live.late.filter(~newer)])
        # A row that was rewritten since must be what the record that it names says.
        rewritten = every.filter(newer).join(
            found, on=[*IDENTITY, "journal_offset"], how="semi", nulls_equal=True
        )
        if len(rewritten):
            must = last_of_each(
                grouped(pl.concat([must, rewritten]), IDENTITY, "journal_offset")
            ).drop(GROUP)
        must = without_removed("usage_minutes", must, found, IDENTITY, kept_after_s, findings)
        found = found.filter(pl.col("journal_offset") >= as_of.first)
        self._report("usage_minutes", must, found, ["journal_offset"], findings)

    def _check_quarters(
        self,
        live: _Live,
        found: pl.DataFrame,
        as_of: AsOf,
        watermark: Watermark,
        window: tuple[int, int],
        old: pl.Series,
        findings: Findings,
    ) -> None:
        closed = last_of_each(live.on_time).filter(pl.col("window_start") < watermark.quarter_s)
        quarters = fold(closed, QUARTER_S).filter(~pl.col("window_start").is_in(old.implode()))
        self._closed_quarters.add(quarters)
        late = self._late_quarters.load(*window)
        self._check_late(live.late, late, QUARTER_S, as_of, findings)
        self._check_coarse(
            "usage_quarters", quarters, late, found, as_of, (watermark.quarter_s, watermark), old,
            findings,
        )  # fmt: skip

    def _check_days(
        self,
        tables: Tables,
        as_of: AsOf,
        watermark: Watermark,
        old: pl.Series,
        read_to: Callable[[int], None],
        findings: Findings,
    ) -> None:
        old_days = old // DAY_S * DAY_S
        whole = self._closed_quarters.rows + self._late_days.rows
        for window in _covering(sorted((start, start + DAY_S) for start in whole)):
            quarters = self._closed_quarters.load(*window)
            days = fold(_NO_CELLS if quarters is None else quarters, DAY_S).filter(
                (pl.col("window_start") < watermark.day_s)
                & ~pl.col("window_start").is_in(old_days.implode())
            )
            found = tables.cells("usage_days", self.segment, *window)
            read_to(_highest(found))
            late = self._late_days.load(*window)
            late_quarters = self._late_quarters.load(*window)
            self._check_late(late_quarters, late, DAY_S, as_of, findings)
            self._check_coarse(
                "usage_days", days, late, found, as_of, (watermark.day_s, watermark), old_days,
                findings,
            )  # fmt: skip

    def _check_coarse(
        self,
        table: str,
        on_time: pl.DataFrame,
        late: pl.DataFrame | None,
        found: pl.DataFrame,
        as_of: AsOf,
        closed: tuple[int, Watermark],
        old: pl.Series,
        findings: Findings,
    ) -> None:
        columns = [*IDENTITY, *VALUES]
        must = on_time.select(columns)
        if late is not None:
            in_scope = pl.col("journal_offset") <= as_of.last
            newer = late.filter(~in_scope).join(found, on=IDENTITY, how="semi")
            must = pl.concat([must, late.filter(in_scope).select(columns), newer.select(columns)])
        until_s, watermark = closed
        is_late = pl.col("late") >= 0
        written_ahead = (
            ~is_late
            & (pl.col("window_start") >= until_s)
            & (pl.col("journal_offset") >= watermark.journal_position)
        )
        in_scope_found = found.filter(
            (pl.col("journal_offset") >= as_of.first)
            & ~written_ahead
            & (is_late | ~pl.col("window_start").is_in(old.implode()))
        )
        self._report(table, must, in_scope_found, [], findings)

    def _check_late(
        self,
        fine: pl.DataFrame | None,
        coarse: pl.DataFrame | None,
        width_s: int,
        as_of: AsOf,
        findings: Findings,
    ) -> None:
        """Late rows of one grain are those of the finer one, folded within their record."""
        if coarse is None and (fine is None or not len(fine)):
            return
        section = "late_days" if width_s == DAY_S else "late_quarters"
        in_scope = pl.col("late") <= as_of.last
        expected = fold((_NO_CELLS if fine is None else fine).filter(in_scope), width_s)
        stated = (_NO_CELLS if coarse is None else coarse).filter(in_scope)
        difference = compare(expected, stated, IDENTITY, VALUES, limit=SHOWN)
        for row in difference.rows:
            findings.add(
                self._chain_finding(
                    row.key["late"], f"{section}, cell {cell_place(row.key)}: {row}"
                )
            )
        findings.more("chain", difference.count - len(difference.rows))

    def _report(
        self,
        table: str,
        must: pl.DataFrame,
        found: pl.DataFrame,
        also: list[str],
        findings: Findings,
    ) -> None:
        findings.compared[table] += len(must)
        difference = compare(must, found, IDENTITY, [*VALUES, *also], limit=SHOWN)
        for row in difference.rows:
            findings.add(
                Finding(table, table, self.segment.partition, cell_place(row.key), str(row))
            )
        findings.more(table, difference.count - len(difference.rows))


def _placed(block: Block, frame: pl.DataFrame, is_late: bool) -> pl.DataFrame:
    journal_offset = block.journal_offset(frame)
    late = journal_offset if is_late else pl.Series(np.full(len(frame), -1, np.int64))
    log_time = pl.Series("log_time", block.log_times_s[frame["record"].to_numpy()])
    return frame.drop("record").with_columns(late.alias("late"), journal_offset, log_time)


def _covering(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges widened so that together they cover all time: extra rows stand anywhere."""
    starts = [0, *(start for start, _ in ranges[1:])]
    ends = [*starts[1:], FOREVER_S]
    yield from zip(starts, ends, strict=True)


def _highest(found: pl.DataFrame) -> int:
    highest = found["journal_offset"].max()
    return highest if isinstance(highest, int) else -1


def _empty(names: list[str]) -> pl.DataFrame:
    kinds: dict[str, pl.DataType] = {}
    for name in names:
        if name.endswith("_buckets"):
            kinds[name] = pl.List(pl.Int16())
        elif name.endswith("_counts"):
            kinds[name] = pl.List(pl.Int64())
        elif name in KEYS[1:]:
            kinds[name] = pl.String()
        else:
            kinds[name] = pl.Int64()
    return pl.DataFrame(schema=kinds)


_NO_MINUTES: Final = _empty(
    [*KEYS, *VALUES, "late", "journal_offset", "log_time", *CHARGED.values()]
)
_NO_CELLS: Final = _empty([*IDENTITY, *VALUES])
