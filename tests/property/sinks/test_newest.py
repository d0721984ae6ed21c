"""Only the newest row of each identity is sent."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from meterstream.sinks.newest import newest_rows

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c"]),
        st.integers(0, 3).map(lambda minute: minute * 60),
        st.sampled_from([0, 1, 2**31]),
    ),
    max_size=60,
)


def table(rows: list[tuple[str, int, int]], chunks: int) -> pa.Table:
    """Return rows in several chunks, whose dictionaries differ, numbered in their order."""
    size = max(1, len(rows) // chunks)
    parts = [
        pa.table(
            {
                "name": pa.array([row[0] for row in part], pa.string()).dictionary_encode(),
                "start": pa.array([row[1] for row in part], pa.timestamp("s", "UTC")),
                "partition": pa.array([row[2] for row in part], pa.uint32()),
                "number": pa.array(range(at, at + len(part)), pa.int64()),
            }
        )
        for at in range(0, len(rows), size)
        for part in [rows[at : at + size]]
    ]
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


@given(rows=ROWS.filter(bool), chunks=st.integers(1, 5))
def test_the_last_row_of_each_identity_is_kept(
    rows: list[tuple[str, int, int]], chunks: int
) -> None:
    """What is kept is what a dictionary filled in order holds, in the order of the rows."""
    last = {row: number for number, row in enumerate(rows)}
    kept = newest_rows(table(rows, chunks), ["name", "start", "partition"])
    assert kept["number"].to_pylist() == sorted(last.values())


@given(rows=ROWS.filter(bool))
def test_identities_of_many_columns_do_not_run_into_each_other(
    rows: list[tuple[str, int, int]],
) -> None:
    """Where the columns' ranges multiply beyond 64 bits, identities are still told apart."""
    made = table(rows, 1)
    wide = [f"wide_{number}" for number in range(6)]
    for name in wide:
        values = [hash((row, name)) % 2**50 for row in rows]
        values[0] = 0
        made = made.append_column(name, pa.array(values, pa.int64()))
    keys = list(zip(*(made[name].to_pylist() for name in ["name", *wide]), strict=True))
    last = {key: number for number, key in enumerate(keys)}
    assert newest_rows(made, ["name", *wide])["number"].to_pylist() == sorted(last.values())
