"""Cells: runs folded by key, merged with what is open, applied, and closed by the clock."""

from collections.abc import Sequence

import numpy as np
import pytest

from meterstream.streams.core.cells import (
    NO_CELLS,
    SUMS,
    CellKey,
    CellValues,
    Folded,
    OpenCells,
    fold_runs,
    values_alone,
)

MINUTE_US = 60_000_000


def key(minute: int, team: str = "t") -> CellKey:
    """Return a key of the given minute since 1970."""
    return (60 * minute, team, "", "", "", "", "", "", "", "agent_run")


def folded(keys: Sequence[CellKey], *runs: tuple[int, int, int, int]) -> Folded:
    """Fold runs of (cell, amount of every measure, latency bucket, first token bucket)."""
    cell, amount, latency, first_token = (np.array(c, np.int64) for c in zip(*runs, strict=True))
    return fold_runs(
        keys, cell, np.stack([amount * (i + 1) for i in range(SUMS)]), latency, first_token
    )


def put(cells: OpenCells, keys: Sequence[CellKey], *runs: tuple[int, int, int, int]) -> CellValues:
    """Merge runs and apply them."""
    values = cells.merge(folded(keys, *runs))
    cells.apply(values)
    return values


def contents(cells: OpenCells) -> dict[CellKey, tuple[int, dict[int, int], dict[int, int]]]:
    """Return the first sum and the sketches of each open cell; the other sums must follow."""
    values = cells.values()
    for sums in values.sums:
        assert sums.tolist() == [int(sums[0]) * (i + 1) for i in range(SUMS)]
    return {
        key: (int(sums[0]), latency, first_token)
        for key, sums, latency, first_token in zip(
            values.keys, values.sums, values.latency, values.first_token, strict=True
        )
    }


def test_runs_are_folded_by_cell() -> None:
    """Each measure is summed and each bucket counted by cell, in whatever order the runs come."""
    values = values_alone(
        folded(
            [key(1), key(2)], (1, 5, 3, 0), (0, 1, 2, -1), (1, 7, 3, -1), (1, 9, 4, 0), (0, 2, 2, 9)
        )
    )
    assert values.keys == [key(1), key(2)]
    assert values.sums.shape == (2, SUMS)
    assert values.sums[:, 0].tolist() == [3, 21]
    assert values.sums[:, SUMS - 1].tolist() == [3 * SUMS, 21 * SUMS]
    assert values.latency == [{2: 2}, {3: 2, 4: 1}]
    assert values.first_token == [{9: 1}, {0: 2}]
    assert len(values) == 2


def test_a_run_without_a_time_is_in_no_sketch() -> None:
    """Bucket -1 says that there is none; bucket 0 is one like others, and so is the last."""
    values = values_alone(folded([key(1)], (0, 1, -1, -1), (0, 1, 0, 2047), (0, 1, -1, 2047)))
    assert values.latency == [{0: 1}]
    assert values.first_token == [{2047: 2}]


def test_merging_gives_absolute_values_and_changes_nothing() -> None:
    """What a cell holds and what is added make its new value; the open cells stay as they were."""
    cells = OpenCells()
    put(cells, [key(1), key(2)], (0, 10, 1, 5), (1, 20, 2, -1))
    before = contents(cells)
    values = cells.merge(folded([key(2), key(3)], (0, 1, 2, 6), (1, 2, 7, -1)))
    assert contents(cells) == before == {key(1): (10, {1: 1}, {5: 1}), key(2): (20, {2: 1}, {})}
    assert values.sums[:, 0].tolist() == [21, 2]
    assert values.latency == [{2: 2}, {7: 1}]
    assert values.first_token == [{6: 1}, {}]
    cells.apply(values)
    assert contents(cells) == {
        key(1): (10, {1: 1}, {5: 1}),
        key(2): (21, {2: 2}, {6: 1}),
        key(3): (2, {7: 1}, {}),
    }
    assert len(cells) == 3


def test_applying_puts_values_in_place() -> None:
    """Values of a record are absolute: applied to any state, and twice, they are what they are."""
    cells = OpenCells()
    values = put(cells, [key(1)], (0, 10, 1, -1))
    cells.apply(values)
    cells.apply(NO_CELLS)
    assert contents(cells) == {key(1): (10, {1: 1}, {})}


def test_no_cells_are_no_values() -> None:
    """An empty state gives empty values of the right shape."""
    assert OpenCells().values().sums.shape == (0, SUMS)
    assert (len(OpenCells()), len(OpenCells().values()), len(NO_CELLS)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("closed_us", "left"), [(-1, 3), (0, 2), (1, 2), (MINUTE_US - 1, 2), (MINUTE_US, 1)]
)
def test_a_cell_closes_at_the_end_of_its_minute(closed_us: int, left: int) -> None:
    """A minute that ended exactly where minutes are closed is closed; one microsecond less, not."""
    cells = OpenCells()
    put(cells, [key(4), key(5), key(6)], (0, 1, 1, -1), (1, 2, 1, -1), (2, 3, 1, -1))
    assert cells.close(5 * MINUTE_US + closed_us) == 3 - left
    assert [k[0] // 60 for k in contents(cells)] == [4, 5, 6][3 - left :]
    assert cells.close(5 * MINUTE_US + closed_us) == 0


def test_closing_drops_all_cells_of_a_minute() -> None:
    """Cells of one minute go together, and those that stay keep their values."""
    cells = OpenCells()
    put(cells, [key(1, "a"), key(2, "a"), key(1, "b")], (0, 1, 1, -1), (1, 2, 2, -1), (2, 3, 3, -1))
    assert cells.close(2 * MINUTE_US) == 2
    assert contents(cells) == {key(2, "a"): (2, {2: 1}, {})}
    values = cells.merge(folded([key(1, "a")], (0, 5, 5, -1)))
    assert (values.sums[0, 0], values.latency) == (5, [{5: 1}])


def test_a_cell_that_changes_keeps_its_place() -> None:
    """However often a cell changes, the first one too, it takes one place and closes once."""
    cells = OpenCells()
    for _ in range(3):
        put(cells, [key(1), key(2)], (0, 1, 1, -1), (1, 2, 2, -1))
        cells.apply(cells.values())
    assert contents(cells) == {key(1): (3, {1: 3}, {}), key(2): (6, {2: 3}, {})}
    assert len(cells._keys) == 2
    assert cells.close(3 * MINUTE_US) == 2
    assert contents(cells) == {}


def test_room_is_used_again() -> None:
    """Cells that closed leave room for new ones, which find nothing of the old there."""
    cells = OpenCells()
    for minute in range(1, 200):
        put(cells, [key(minute, str(i)) for i in range(5)], *((i, i + 1, i, i) for i in range(5)))
        cells.close(minute * MINUTE_US)
        assert len(cells) == 5
        assert contents(cells) == {key(minute, str(i)): (i + 1, {i: 1}, {i: 1}) for i in range(5)}
    assert len(cells._keys) == 10


def test_there_is_room_for_any_number_of_cells() -> None:
    """Beyond the room made at first, and beyond twice that, each cell keeps its own values."""
    cells = OpenCells()
    for first in range(0, 5_000, 900):
        some = range(first, first + 900)
        put(cells, [key(i) for i in some], *((i - first, i + 1, i % 99, -1) for i in some))
    assert len(cells) == 5_400
    assert contents(cells) == {key(i): (i + 1, {i % 99: 1}, {}) for i in range(5_400)}


def test_the_first_cell_beyond_the_room_has_room() -> None:
    """A batch that fills the room and one cell more is taken whole."""
    cells = OpenCells()
    count = len(cells._sums) + 1
    put(cells, [key(i) for i in range(count)], *((i, i, 1, -1) for i in range(count)))
    assert contents(cells)[key(count - 1)] == (count - 1, {1: 1}, {})


def test_values_do_not_share_what_they_hold() -> None:
    """A value that a record was written from never changes with the state."""
    cells = OpenCells()
    first = put(cells, [key(1)], (0, 1, 1, 1))
    put(cells, [key(1)], (0, 1, 1, 1))
    assert (first.sums[0, 0], first.latency, first.first_token) == (1, [{1: 1}], [{1: 1}])
    assert contents(cells) == {key(1): (2, {1: 2}, {1: 2})}
