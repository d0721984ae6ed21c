"""The filter that rules out ids which were never seen."""

import numpy as np
import pytest

from meterstream.streams.core.filter import BITS_PER_ID, IdFilter


def ids(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random ids, sorted by their high half."""
    random = np.random.default_rng(seed)
    hi, lo = random.integers(0, 2**64, (2, count), np.uint64, endpoint=False)
    return np.sort(hi), lo


@pytest.mark.parametrize("count", [1, 2, 63, 1_000, 50_000])
def test_no_id_that_was_added_is_ruled_out(count: int) -> None:
    """The filter never says no wrongly, however full it is."""
    small = IdFilter(max(1, count // 4))
    small.add(*ids(count, 1))
    assert small.may_hold(*ids(count, 1)).all()


def test_nearly_all_new_ids_are_ruled_out() -> None:
    """At its capacity the filter says yes wrongly in little more than one of a hundred cases."""
    full = IdFilter(10_000)
    full.add(*ids(full.capacity, 1))
    wrong = full.may_hold(*ids(100_000, 2)).mean()
    assert 0.001 < wrong < 0.014


def test_an_empty_filter_holds_nothing() -> None:
    """Adding no ids changes nothing."""
    empty = IdFilter(100)
    empty.add(*ids(0, 1))
    assert not empty.may_hold(*ids(1_000, 2)).any()


def test_several_additions_add_up() -> None:
    """Ids that fall into the same word, in one addition or two, are all found."""
    one = IdFilter(1)
    hi = np.zeros(40, np.uint64)
    lo = np.arange(40, dtype=np.uint64) << np.uint64(3)
    one.add(hi[:20], lo[:20])
    one.add(hi[20:], lo[20:])
    assert one.may_hold(hi, lo).all()
    assert not IdFilter(1).may_hold(hi, lo).any()


@pytest.mark.parametrize("capacity", [1, 5, 6, 1_000, 1 << 16, 100_000])
def test_memory_is_bounded(capacity: int) -> None:
    """There is room for what was asked for, in fewer than twice the bits that it takes."""
    made = IdFilter(capacity)
    assert made.capacity >= capacity
    assert made.nbytes * 8 <= max(128, 2 * capacity * BITS_PER_ID)
    assert made.nbytes & (made.nbytes - 1) == 0
