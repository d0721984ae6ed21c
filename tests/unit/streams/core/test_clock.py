"""The partition's clock: the running maximum of the broker's times, within reason."""

import numpy as np
import pytest

from meterstream.streams.core.clock import run_clock


def clocks(clock_us: int, log_times_us: list[int], now_us: int, skew_us: int = 10) -> list[int]:
    """Return the clock after each record."""
    found = run_clock(clock_us, np.array(log_times_us, np.int64), now_us, skew_us)
    assert found.dtype == np.int64
    return [int(clock) for clock in found]


def test_the_clock_is_the_running_maximum() -> None:
    """A log time before the clock leaves it; one after moves it."""
    assert clocks(100, [90, 105, 103, 110], 100) == [100, 105, 105, 110]


def test_no_record_moves_no_clock() -> None:
    """Without records there are no clocks."""
    assert clocks(100, [], 100) == []


@pytest.mark.parametrize(
    ("log_time_us", "clock_us", "now_us", "after_us"),
    [
        (110, 100, 50, 110),
        (111, 100, 50, 100),
        (110, 50, 100, 110),
        (111, 50, 100, 50),
        (110, 100, 100, 110),
    ],
)
def test_a_log_time_too_far_ahead_does_not_move_the_clock(
    log_time_us: int, clock_us: int, now_us: int, after_us: int
) -> None:
    """It must be more than the skew ahead of both the clock and the worker's time, not less."""
    assert clocks(clock_us, [log_time_us], now_us) == [after_us]


def test_a_skewed_record_does_not_stop_those_after_it() -> None:
    """After a time years ahead the clock goes on with the next sensible one."""
    assert clocks(100, [101, 999_999, 105, 103, 999_999, 106], 100) == [
        101,
        101,
        105,
        105,
        105,
        106,
    ]


def test_the_clock_carries_the_skew_along() -> None:
    """Each record is compared with the clock before it, so steps within the skew add up."""
    assert clocks(100, [110, 120, 130, 141, 999], 0) == [110, 120, 130, 130, 130]


def test_batch_borders_make_no_difference() -> None:
    """The clock after a batch is the clock after the same records in single batches."""
    times = [101, 150, 111, 121, 90, 131, 160]
    at_once = clocks(100, times, 100)
    one_by_one, clock_us = [], 100
    for time_us in times:
        (clock_us,) = clocks(clock_us, [time_us], 100)
        one_by_one.append(clock_us)
    assert at_once == one_by_one == [101, 101, 111, 121, 121, 131, 131]
