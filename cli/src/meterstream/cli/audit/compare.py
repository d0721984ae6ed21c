"""Compares two sets of rows exactly, and names each row that is missing, extra or different."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

HASH: Final = "row_hash"
GROUP: Final = "row_group"
_SEEDS: Final = 8


@dataclass(frozen=True, slots=True)
class Unequal:
    """One row that is not on both sides, or not the same."""

    kind: str
    """missing, extra or different."""
    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]
    """By column that differs: what was expected, and what was found."""

    def __str__(self) -> str:
        """Say what is wrong with the row."""
        if self.kind == "missing":
            return "the row is missing"
        if self.kind == "extra":
            return "the row does not follow from the journal"
        named = [
            f"{name} is {found}, the journal says {expected}"
            for name, (expected, found) in self.columns.items()
        ]
        return "; ".join(named)


@dataclass(frozen=True, slots=True)
class Difference:
    """The outcome of a comparison: how many rows are unequal, and the first of them."""

    count: int = 0
    rows: tuple[Unequal, ...] = ()


EQUAL: Final = Difference()


def grouped(frame: pl.DataFrame, keys: Sequence[str], *then: str) -> pl.DataFrame:
    """Return the rows sorted so that equal keys stand together, each numbered in GROUP.

    Rows of one key are in the order of the columns `then`. Keys are brought together by their
    hashes; should two keys share one, another hash is taken.
    """
    for seed in range(_SEEDS):
        hashed = frame.with_columns(frame.select(keys).hash_rows(seed=seed).alias(HASH))
        hashed = hashed.sort(HASH, *then)
        same_hash = pl.col(HASH) == pl.col(HASH).shift()
        same_key = pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys)
        clash = hashed.select((same_hash & ~same_key).fill_null(False).any()).item()
        if not clash:
            return hashed.with_columns((~same_hash).fill_null(True).cum_sum().alias(GROUP)).drop(
                HASH
            )
    raise AssertionError(f"{_SEEDS} hashes of the keys clash")


def last_of_each(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the last row of each group of `grouped`."""
    return frame.filter((pl.col(GROUP) != pl.col(GROUP).shift(-1)).fill_null(True))


def compare(
    expected: pl.DataFrame,
    found: pl.DataFrame,
    keys: Sequence[str],
    values: Sequence[str],
    *,
    limit: int,
) -> Difference:
    """Compare rows that are unique by `keys` in `values`; name `limit` unequal ones at most.

    A key that stands twice on the found side counts as an extra row.
    """
    columns = [*keys, *values]
    left, right = expected.select(columns), found.select(columns)
    if left.height == right.height and _sorted(left, keys).equals(_sorted(right, keys)):
        return EQUAL
    left, right = canonical(left), canonical(right)
    twice = right.select(keys).is_duplicated()
    extra_twice = right.filter(twice).unique(keys)
    repeated = right.height - right.select(keys).n_unique()
    joined = left.with_columns(pl.lit(True).alias("in_expected")).join(
        right.unique(keys, keep="first").with_columns(pl.lit(True).alias("in_found")),
        on=keys,
        how="full",
        coalesce=True,
        suffix="_found",
    )
    here, there = pl.col("in_expected").is_not_null(), pl.col("in_found").is_not_null()
    unequal = (
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_found")) for name in values)
        if values
        else pl.lit(False)
    )
    missing = joined.filter(~there)
    extra = joined.filter(~here)
    different = joined.filter(here & there & unequal)
    rows = [
        *(Unequal("missing", _key(row, keys), {}) for row in _some(missing, limit)),
        *(Unequal("extra", _key(row, keys), {}) for row in _some(extra, limit)),
        *(Unequal("extra", _key(row, keys), {}) for row in _some(extra_twice, limit)),
        *(
            Unequal("different", _key(row, keys), _columns(row, values))
            for row in _some(different, limit)
        ),
    ]
    return Difference(
        missing.height + extra.height + different.height + repeated, tuple(rows[:limit])
    )


def _sorted(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    if len(keys) == 1:
        return frame if frame[keys[0]].is_sorted() else frame.sort(keys[0])
    return frame.with_columns(frame.select(keys).hash_rows().alias(HASH)).sort(HASH).drop(HASH)


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the buckets of each sketch in ascending order: a map has none."""
    for name in frame.columns:
        if name.endswith("_buckets"):
            counts = f"{name.removesuffix('_buckets')}_counts"
            sketches = frame.select(name, counts).with_row_index("row")
            pairs = sketches.filter(pl.col(name).list.len() > 0).explode(name, counts)
            ordered = pairs.sort("row", name).group_by("row", maintain_order=True).agg(name, counts)
            both = sketches.select("row").join(ordered, on="row", how="left", maintain_order="left")
            frame = frame.with_columns(
                both[name].fill_null(pl.Series([[]], dtype=frame.schema[name])),
                both[counts].fill_null(pl.Series([[]], dtype=frame.schema[counts])),
            )
    return frame


def _some(frame: pl.DataFrame, limit: int) -> list[dict[str, Any]]:
    return frame.head(limit).to_dicts()


def _key(row: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def _columns(row: dict[str, Any], values: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (row[name], row[f"{name}_found"])
        for name in values
        if row[name] != row[f"{name}_found"]
    }
