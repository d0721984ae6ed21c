"""Pauses grow up to a bound, and every delivery comes to an end."""

import random

from hypothesis import given
from hypothesis import strategies as st

from meterstream.notifier.backoff import Backoff

BACKOFF = Backoff(attempts=20, retry_s=3600, first_pause_s=1, longest_pause_s=300, hold_s=900)


@given(failed=st.integers(1, 5_000), seed=st.integers(0, 2**32))
def test_a_pause_lies_between_half_and_all_of_its_bound(failed: int, seed: int) -> None:
    """It doubles with each failure until the longest one, less up to a half by chance."""
    bound = min(1 * 2 ** min(failed - 1, 30), 300)
    assert bound / 2 <= BACKOFF.pause_s(failed, random.Random(seed)) <= bound


def test_pauses_differ_by_chance() -> None:
    """Deliveries that failed together do not all come back at once."""
    assert len({BACKOFF.pause_s(5, random.Random(seed)) for seed in range(20)}) == 20


def test_attempts_and_time_end_it() -> None:
    """Whichever bound is reached first."""
    assert not BACKOFF.is_over(19, 3599)
    assert BACKOFF.is_over(20, 0)
    assert BACKOFF.is_over(1, 3600)


def test_a_receiver_is_left_alone_within_bounds() -> None:
    """What it asks for counts up to the bound, and nothing below zero."""
    assert [BACKOFF.held_s(asked) for asked in (-5, 0, 30, 86_400)] == [0, 0, 30, 900]
