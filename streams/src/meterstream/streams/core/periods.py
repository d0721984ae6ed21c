"""The periods of a subscription: months that begin at midnight of an anchor day in a time zone."""

from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from meterstream.schemas.times import EPOCH, to_us


def local_day(zone: str, time_us: int) -> int:
    """Return which day of the month it is in a zone at a time, 1 to 31."""
    return _local(zone, time_us).day


@lru_cache(maxsize=10_000)
def period_end(zone: str, anchor_day: int, time_us: int) -> int:
    """Return when the period ends that holds a time: the first anchor after it, microseconds.

    A month without such a day has its anchor on its last one. Midnight that a zone's clocks skip is
    the moment after; of one that comes twice it is the first. Raises OverflowError where it would
    leave the calendar.
    """
    local = _local(zone, time_us)
    first = local.replace(day=1, tzinfo=None)
    for months in (0, 1):
        month = (first + timedelta(days=31 * months)).replace(day=1)
        last = (month + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        anchor = month.replace(day=min(anchor_day, last.day), tzinfo=ZoneInfo(zone))
        anchor_us = to_us(anchor)
        if anchor_us > time_us:
            return anchor_us
    raise AssertionError("an anchor day comes every month")


def _local(zone: str, time_us: int) -> datetime:
    local = (EPOCH + timedelta(microseconds=time_us)).astimezone(ZoneInfo(zone))
    return datetime(local.year, local.month, local.day)  # noqa: DTZ001 - a day on the zone's clock
