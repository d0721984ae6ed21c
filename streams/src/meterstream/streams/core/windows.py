"""The windows in which limits count: days and months of a team's time zone.

A window is a span of event time, from its first instant up to, not including, its last. A day that
clocks shorten or lengthen is as short or long as it was.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from meterstream.schemas.times import EPOCH, to_us

from .policy import QUARTER_US

Kind = Literal["day", "month"]
KINDS: Final[tuple[Kind, ...]] = ("day", "month")
UTC_ZONE: Final = "UTC"
"""The zone of a team that the catalog does not know."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A day or a month. Microseconds since 1970."""

    kind: Kind
    start_us: int
    end_us: int


def windows_at(zone: str, time_us: int) -> tuple[Window, Window]:
    """Return the day and the month of `zone` that hold a time, 0001 to 9999.

    Offsets of all zones since 1972 are whole quarters of an hour, so windows are looked up once a
    quarter. Raises OverflowError for times whose window leaves the calendar.
    """
    return _windows(zone, time_us // QUARTER_US)


@lru_cache(maxsize=10_000)
def _windows(zone: str, quarter: int) -> tuple[Window, Window]:
    where = ZoneInfo(zone)
    local = (EPOCH + timedelta(microseconds=quarter * QUARTER_US)).astimezone(where)
    day = datetime(local.year, local.month, local.day, tzinfo=where)
    month = day.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    # Arithmetic on the clock of the zone; a midnight that comes twice is the first one, and one
    # that is skipped is the moment after.
    return (
        Window("day", to_us(day), to_us(day + timedelta(days=1))),
        Window("month", to_us(month), to_us(next_month)),
    )
