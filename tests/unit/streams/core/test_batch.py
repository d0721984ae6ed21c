"""Micro-batches: consecutive offsets of a partition, and how they are divided."""

import pytest

from meterstream.streams.core import EventBatch


def batch(start: int, end: int, *offsets: int) -> EventBatch:
    """Return a batch whose log times and values follow from the offsets."""
    values = [str(offset).encode() for offset in offsets]
    return EventBatch(start, end, offsets, [10 * o for o in offsets], values, 3, 4)


def test_a_batch_may_hold_gaps_and_nothing_else() -> None:
    """Offsets without records before, between and after the records belong to the batch."""
    assert batch(0, 9, 2, 5).offsets == (2, 5)
    assert batch(4, 4).offsets == ()
    assert batch(4, 9).end == 9
    assert batch(2, 6, 2, 5).start == 2


@pytest.mark.parametrize(
    ("start", "end", "offsets"), [(3, 9, (2, 5)), (0, 5, (2, 5)), (0, 6, (5, 2)), (0, 4, (2, 5))]
)
def test_records_lie_within_the_batch(start: int, end: int, offsets: tuple[int, ...]) -> None:
    """A record outside the offsets that the batch speaks of is refused."""
    with pytest.raises(ValueError, match="lie outside"):
        batch(start, end, *offsets)


def test_a_batch_does_not_end_before_it_starts() -> None:
    """A batch that would move the position back is refused."""
    with pytest.raises(ValueError, match="the batch ends at offset 3, before 4"):
        batch(4, 3)


@pytest.mark.parametrize(
    ("log_times", "values"), [((1,), (b"a", b"b")), ((1, 2), (b"a",)), ((1, 2, 3), (b"a", b"b"))]
)
def test_each_record_has_a_log_time_and_a_value(
    log_times: tuple[int, ...], values: tuple[bytes, ...]
) -> None:
    """Columns of different lengths are refused."""
    with pytest.raises(ValueError, match="differ in number"):
        EventBatch(0, 9, (1, 2), log_times, values)


def test_halves_are_the_batch() -> None:
    """Two halves hold every record once, in order, and each gap with the record after it."""
    first, second = batch(0, 20, 2, 5, 9, 12, 15).halves()
    assert first == batch(0, 6, 2, 5)
    assert second == batch(6, 20, 9, 12, 15)


def test_any_part_holds_the_gaps_before_its_records() -> None:
    """A part begins after the record before it and ends with its own last record, or the batch."""
    whole = batch(0, 20, 2, 5, 9)
    assert whole.part(0, 1) == batch(0, 3, 2)
    assert whole.part(1, 2) == batch(3, 6, 5)
    assert whole.part(2, 3) == batch(6, 20, 9)
    assert whole.part(0, 3) == whole


@pytest.mark.parametrize("offsets", [(), (3,)])
def test_fewer_than_two_records_are_not_halved(offsets: tuple[int, ...]) -> None:
    """One record cannot be divided, so the caller must not ask for it."""
    with pytest.raises(ValueError, match="fewer than two records cannot be halved"):
        batch(0, 9, *offsets).halves()


def test_two_records_are_halved_into_one_each() -> None:
    """The smallest batch that can be divided gives two single records."""
    assert batch(0, 9, 3, 4).halves() == (batch(0, 4, 3), batch(4, 9, 4))
