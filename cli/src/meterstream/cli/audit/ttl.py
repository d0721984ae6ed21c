"""Rows that ClickHouse may have removed because of their age are not missed."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from .findings import Findings
from .places import moment
from .tables import Tables

DAY_S: Final = 86_400


def kept_after(tables: Tables, table: str) -> int:
    """Return the log time (seconds) after which no row of `table` is removed by its TTL.

    A day is left between, so that a row which is removed meanwhile is not missed either.
    """
    days = tables.kept_days(table)
    if days is None:
        return -1
    return tables.now_s() - (days - 1) * DAY_S


def without_removed(
    table: str,
    expected: pl.DataFrame,
    found: pl.DataFrame,
    keys: Sequence[str],
    kept_after_s: int,
    findings: Findings,
) -> pl.DataFrame:
    """Return the expected rows without those that are so old that they may be gone, and are."""
    is_old = pl.col("log_time") <= kept_after_s
    old = expected.filter(is_old)
    if not len(old):
        return expected
    still_there = old.join(found, on=keys, how="semi")
    if len(still_there) < len(old):
        findings.note(
            f"{table}: rows with log times up to {moment(kept_after_s)} are not missed: the"
            " table's TTL removes them"
        )
    return pl.concat([expected.filter(~is_old), still_there])
