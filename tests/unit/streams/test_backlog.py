"""The backlog joins records up to a batch, keeps their order, and never hides a hole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.streams.backlog import Backlog, EventsDamaged, NotConsecutive
from meterstream.streams.transport import Records


def records(start: int, count: int, *, size: int = 1, gap: int = 0) -> Records:
    """Return `count` records of `size` bytes from `start` on, with a gap after them."""
    offsets = range(start, start + count)
    return Records(
        start, start + count + gap, offsets, [1] * count, [b"x" * size] * count, count * size
    )


def test_joined_up_to_a_batch() -> None:
    """Records are joined while their number and their bytes stay within a batch."""
    backlog = Backlog(10, 1000)
    for start in range(0, 16, 4):
        backlog.add(records(start, 3, gap=1))
    first, second = backlog.take(), backlog.take()
    assert first is not None
    assert second is not None
    assert (first.start, first.end, list(first.offsets)) == (0, 12, [0, 1, 2, 4, 5, 6, 8, 9, 10])
    assert (second.start, second.end, list(second.offsets)) == (12, 16, [12, 13, 14])
    assert backlog.take() is None
    assert not backlog


def test_bytes_bound_it_too() -> None:
    """A few large events fill a partition as many small ones do."""
    backlog = Backlog(1000, 100)
    fills = []
    for start, count, size in ((0, 1, 90), (1, 2, 60)):
        backlog.add(records(start, count, size=size))
        fills.append((backlog.is_full, backlog.has_room))
    assert fills == [(False, True), (True, False)]
    taken = backlog.take()
    assert taken is not None
    assert len(taken.offsets) == 1
    backlog.take()
    assert backlog.has_room


def test_holes() -> None:
    """Records that do not follow are refused, and what was there stays."""
    backlog = Backlog(10, 1000)
    backlog.begin(5)
    backlog.add(records(5, 2))
    for start in (5, 8):
        with pytest.raises(NotConsecutive):
            backlog.add(records(start, 1))
    taken = backlog.take()
    assert taken is not None
    assert (taken.start, taken.end) == (5, 7)


def test_offsets_out_of_range_stay_apart() -> None:
    """What the log does not have is never joined with what it has."""
    backlog = Backlog(10, 1000)
    backlog.add(records(0, 2))
    backlog.add(Records(2, 3, (), (), (), 0, out_of_range=True))
    taken = backlog.take()
    assert taken is not None
    assert taken.end == 2
    assert backlog.is_out_of_range


def test_what_stands_before_damaged_events_is_taken_first() -> None:
    """Only then they are told of."""
    backlog = Backlog(10, 1000)
    backlog.add(records(0, 2))
    backlog.add(Records(2, 3, (), (), (), 0, damage="it fails its CRC"))
    taken = backlog.take()
    assert taken is not None
    assert taken.end == 2
    with pytest.raises(EventsDamaged, match="offset 2 on cannot be read: it fails its CRC"):
        backlog.take()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=20), st.integers(1, 9))
def test_nothing_gets_lost(parts: list[tuple[int, int]], max_events: int) -> None:
    """However it is filled, taken from and put back to, each offset comes once and in order."""
    backlog, position = Backlog(max_events, 10_000), 0
    for count, gap in parts:
        if count + gap:
            backlog.add(records(position, count, gap=gap))
            position += count + gap
    taken: list[int] = []
    at, halved = 0, False
    while (batch := backlog.take()) is not None:
        assert batch.start == at
        if len(batch.offsets) > 1 and not halved:
            batch, rest = batch.halves()
            backlog.put_back(rest)
        halved = not halved
        taken += batch.offsets
        at = batch.end
    assert at == position
    assert taken == sorted(set(taken))
    assert len(taken) == sum(count for count, _ in parts)
    assert backlog.batches == 0
