"""Comparing rows: every unequal one is counted and named, and only those."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from meterstream.cli.audit.compare import canonical, compare, grouped, last_of_each

ROWS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3)), st.integers(0, 2), max_size=10
)


def frame(rows: dict[tuple[str, int], int]) -> pl.DataFrame:
    """Return rows with two key columns and a value."""
    return pl.DataFrame(
        [(name, number, value) for (name, number), value in rows.items()],
        schema={"name": pl.String, "number": pl.Int64, "value": pl.Int64},
        orient="row",
    )


@given(ROWS, ROWS)
def test_compare_agrees_with_dictionaries(
    left: dict[tuple[str, int], int], right: dict[tuple[str, int], int]
) -> None:
    """Missing, extra and different rows are those that two dictionaries differ in."""
    found = compare(frame(left), frame(right), ["name", "number"], ["value"], limit=100)
    by_kind: dict[str, set[tuple[str, int]]] = {
        "missing": set(),
        "extra": set(),
        "different": set(),
    }
    for row in found.rows:
        by_kind[row.kind].add((row.key["name"], row.key["number"]))
    assert by_kind == {
        "missing": left.keys() - right.keys(),
        "extra": right.keys() - left.keys(),
        "different": {key for key in left.keys() & right.keys() if left[key] != right[key]},
    }
    assert found.count == sum(map(len, by_kind.values()))


def test_what_differs_is_said() -> None:
    """A different row names its columns with both values; the limit leaves the count alone."""
    found = compare(
        frame({("a", 1): 1, ("a", 2): 1}),
        frame({("a", 1): 2, ("a", 2): 2}),
        ["name", "number"],
        ["value"],
        limit=1,
    )
    assert [str(row) for row in found.rows] == ["value is 2, the journal says 1"]
    assert found.count == 2


def test_a_row_that_stands_twice_is_extra() -> None:
    """The same row once more is one difference."""
    one = frame({("a", 1): 1})
    found = compare(one, pl.concat([one, one]), ["name", "number"], ["value"], limit=9)
    assert (found.count, [row.kind for row in found.rows]) == (1, ["extra"])


def sketches(*found: tuple[list[int], list[int]]) -> pl.DataFrame:
    """Return rows of one sketch each."""
    return pl.DataFrame(
        {
            "key": list(range(len(found))),
            "s_buckets": [buckets for buckets, _ in found],
            "s_counts": [counts for _, counts in found],
        },
        schema_overrides={"s_buckets": pl.List(pl.Int16), "s_counts": pl.List(pl.Int64)},
    )


def test_sketches_are_compared_by_bucket() -> None:
    """The order of the buckets does not matter; which count belongs to which does."""
    left = sketches(([1, 2], [3, 4]), ([], []), ([5, 1], [1, 1]))
    values = ["s_buckets", "s_counts"]
    same = sketches(([2, 1], [4, 3]), ([], []), ([5, 1], [1, 1]))
    assert compare(left, same, ["key"], values, limit=9).count == 0
    swapped = sketches(([1, 2], [4, 3]), ([], []), ([1, 5], [1, 1]))
    assert compare(left, swapped, ["key"], values, limit=9).count == 1
    assert canonical(left)["s_buckets"].to_list() == [[1, 2], [], [1, 5]]


@given(ROWS)
def test_groups_are_the_keys(rows: dict[tuple[str, int], int]) -> None:
    """Rows of one key stand together in the asked order, and the last of each is found."""
    found = last_of_each(grouped(frame(rows), ["name"], "number"))
    expected: dict[str, int] = {}
    for name, number in rows:
        expected[name] = max(number, expected.get(name, -1))
    assert dict(found.select("name", "number").iter_rows()) == expected
