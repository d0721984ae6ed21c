"""Folds cells into wider windows: sums add up, sketches merge by adding counts."""

import polars as pl

from .columns import KEYS, SKETCHES, SUMS, VALUES
from .compare import GROUP, grouped

IDENTITY = [*KEYS, "late"]


def fold(cells: pl.DataFrame, width_s: int) -> pl.DataFrame:
    """Return cells summed by windows of `width_s` seconds, apart by `late`."""
    start = pl.col("window_start").floordiv(width_s) * width_s
    groups = grouped(cells.select(*IDENTITY, *VALUES).with_columns(window_start=start), IDENTITY)
    folded = groups.group_by(GROUP, maintain_order=True).agg(
        *(pl.col(name).first() for name in IDENTITY), *(pl.col(name).sum() for name in SUMS)
    )
    for buckets, counts in zip(SKETCHES[::2], SKETCHES[1::2], strict=True):
        merged = (
            groups.select(GROUP, buckets, counts)
            .filter(pl.col(buckets).list.len() > 0)
            .explode(buckets, counts)
            .group_by(GROUP, buckets)
            .agg(pl.col(counts).sum())
            .sort(GROUP, buckets)
            .group_by(GROUP, maintain_order=True)
            .agg(buckets, counts)
        )
        folded = folded.join(merged, on=GROUP, how="left", maintain_order="left").with_columns(
            pl.col(buckets).fill_null(pl.Series([[]], dtype=cells.schema[buckets])),
            pl.col(counts).fill_null(pl.Series([[]], dtype=cells.schema[counts])),
        )
    return folded.drop(GROUP)
