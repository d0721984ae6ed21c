"""A partition's clock: the running maximum of the broker's log-append times."""

import numpy as np
from numpy.typing import NDArray


def run_clock(
    clock_us: int, log_times_us: NDArray[np.int64], now_us: int, skew_us: int
) -> NDArray[np.int64]:
    """Return the clock after each record, all in microseconds.

    A log time more than `skew_us` ahead of both the clock and the worker's own time `now_us`
    leaves the clock where it is: one broker with a wrong year must not close every window.
    """
    if not len(log_times_us) or int(log_times_us.max()) <= max(clock_us, now_us) + skew_us:
        return np.maximum(np.maximum.accumulate(log_times_us), clock_us)
    clocks = np.empty_like(log_times_us)
    for i, log_time_us in enumerate(log_times_us.tolist()):
        if log_time_us <= max(clock_us, now_us) + skew_us:
            clock_us = max(clock_us, log_time_us)
        clocks[i] = clock_us
    return clocks
