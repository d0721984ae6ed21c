"""Cells never add up to more than 64 bits hold, and the run that no longer fits is named."""

import numpy as np
import pytest
from tests.support.core_runner import contents_of
from tests.support.craft import (
    HOUR,
    MINUTE,
    NOW,
    Json,
    Partition,
    batch_of,
    cells,
    charges,
    rejects,
    run,
    session,
    verdicts,
)

from meterstream.schemas.rows import CELL_SUMS
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import Step, room
from meterstream.streams.core.cells import SUMS, CellValues
from meterstream.streams.core.room import MAX_CELL_SUM, CellFull, check_room

COUNTED, LARGE = Verdict.COUNTED, Verdict.AMOUNT_TOO_LARGE


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cell hold 10 seconds of latency, or ten million of anything."""
    monkeypatch.setattr(room, "MAX_CELL_SUM", 10_000_000)


def big(event_id: str, amount: int, **data: object) -> Json:
    """Return a run of no length that was charged an amount."""
    at = data.pop("at_us", NOW)
    assert isinstance(at, int)
    return run(event_id, at, started_us=at, credits_micro=amount, **data)


def test_the_bound_leaves_room_for_a_batch() -> None:
    """A cell at its bound and the largest batch there can be stay below 2^63 together."""
    assert MAX_CELL_SUM == 2**62
    assert 2**62 + 4_000_000 * 10**12 < 2**63


@pytest.mark.parametrize("measure", range(SUMS), ids=[column.name for column in CELL_SUMS])
def test_every_measure_is_watched(measure: int) -> None:
    """Exactly the bound is room, one more is not, in any measure of any cell."""
    sums = np.zeros((3, SUMS), np.int64)
    sums[1, measure] = 10_000_000
    values = CellValues([(0, *("",) * 9)] * 3, sums, [{}] * 3, [{}] * 3)
    check_room(values)
    sums[1, measure] += 1
    with pytest.raises(CellFull):
        check_room(values)


def test_a_full_cell_takes_no_more() -> None:
    """The run that would pass the bound is refused; a smaller one after it still fits."""
    partition = Partition()
    step = partition.take(big("a", 9_999_990), big("b", 11), big("c", 10), big("d", 1), big("e", 0))
    assert verdicts(step) == [COUNTED, LARGE, COUNTED, LARGE, COUNTED]
    detail = "a sum of the run's cell would pass what a cell holds"
    assert rejects(step) == [("events", 1, LARGE, detail), ("events", 3, LARGE, detail)]
    assert cells(step)[0][1] == {"runs": 3, "credits_micro": 10_000_000}
    assert [c["event_offset"] for c in charges(step)] == [0, 2, 4]
    assert partition.state.dedup_ids == 3
    assert verdicts(partition.take(big("f", 1), big("g", 0))) == [LARGE, COUNTED]


def test_other_cells_have_room_of_their_own() -> None:
    """A full cell refuses its own runs; other keys, other minutes and late rows go on."""
    partition = Partition(clock_us=NOW + 10 * MINUTE)
    partition.take(big("a", 10_000_000))
    step = partition.take(
        big("b", 1),
        big("c", 1, user_id="u"),
        big("d", 1, at_us=NOW + MINUTE),
        session("heartbeat"),
        big("e", 10_000_000, at_us=NOW - HOUR),
        big("f", 10_000_000, at_us=NOW - HOUR),
        b"",
        big("a", 10_000_000),
    )
    assert verdicts(step) == [
        LARGE, COUNTED, COUNTED, COUNTED, COUNTED, COUNTED, Verdict.EMPTY, Verdict.DUPLICATE,
    ]  # fmt: skip


def test_a_run_that_did_not_fit_may_come_again() -> None:
    """Its id is not kept: resent, it is refused again while the cell is full, never a duplicate."""
    partition = Partition()
    step = partition.take(big("a", 10_000_000), big("b", 5), big("b", 5), big("b", 0), big("b", 5))
    assert verdicts(step) == [COUNTED, LARGE, LARGE, COUNTED, Verdict.CONFLICT]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_borders_make_no_difference_to_room(size: int) -> None:
    """Which run no longer fits is decided by the log, not by how it is cut."""
    amounts = [4_000_000, 4_000_000, 3_000_000, 2_000_000, 1, 0, 9_000_000, 10, 4_000_000]
    events = [big(str(i % 7), amount, user_id=f"u-{i % 2}") for i, amount in enumerate(amounts)]
    events += [big(str(i), 5_000_000, user_id="u-1") for i in range(20, 24)]
    times = [NOW + i for i in range(len(events))]

    def decided(size: int) -> tuple[list[Verdict], object]:
        partition = Partition()
        steps: list[Step] = [
            partition.take_batch(batch_of(i, events[i : i + size], times[i : i + size]))
            for i in range(0, len(events), size)
        ]
        contents = contents_of(partition.state)
        return [v for step in steps for v in verdicts(step)], {**contents, "link": 0}

    assert decided(size) == decided(len(events))
    assert decided(size)[0].count(LARGE) == 5
