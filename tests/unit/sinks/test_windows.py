"""When windows close."""

from meterstream.sinks.windows import DAY_S, FOREVER_S, QUARTER_S, Closed, closed_at, closed_before

GRACE_US = 600_000_000


def test_a_window_closes_when_its_end_and_the_grace_have_passed() -> None:
    """A microsecond before it is open, and from then on it is closed."""
    end_us = 3 * QUARTER_S * 1_000_000 + GRACE_US
    assert closed_at(end_us - 1, GRACE_US).quarter_s == 2 * QUARTER_S
    assert closed_at(end_us, GRACE_US).quarter_s == 3 * QUARTER_S


def test_days_close_at_midnight_and_the_grace() -> None:
    """The day's quarters are closed before it, or with it."""
    clock_us = 5 * DAY_S * 1_000_000 + GRACE_US
    assert closed_at(clock_us, GRACE_US) == Closed(5 * DAY_S, 5 * DAY_S)
    assert closed_at(clock_us - 1, GRACE_US) == Closed(5 * DAY_S - QUARTER_S, 4 * DAY_S)


def test_nothing_is_closed_before_the_grace_of_all_time() -> None:
    """A clock near zero closes nothing, and is no negative time."""
    assert closed_at(0, GRACE_US) == Closed(0, 0)


def test_a_minute_that_is_not_stored_holds_its_quarter_and_day() -> None:
    """The windows before the held ones may close."""
    minute_s = 2 * DAY_S + 16 * 60
    assert closed_before(minute_s) == Closed(2 * DAY_S + QUARTER_S, 2 * DAY_S)


def test_forever_is_a_whole_day_that_a_datetime_holds() -> None:
    """It is a window's start in both grains."""
    assert FOREVER_S % DAY_S == 0
    assert FOREVER_S < 2**32
