"""Event times: RFC 3339 with an offset, in microseconds since 1970 (UTC) everywhere inside."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?"
    r"(?:[Zz]|([+-])(\d{2}):?(\d{2}))",
    re.ASCII,
)


def parse_rfc3339(text: str) -> datetime:
    """Return the moment that `text` names, in UTC, rounded to the microsecond (half up).

    The text needs a date, a time with seconds and an offset (`Z`, `+hh:mm` or `+hhmm`). Anything
    else raises ValueError, and so do leap seconds, which Python's clock cannot hold, and moments
    outside the years 1 to 9999 in UTC. The message never quotes the text.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ValueError("no such day or time of day; a leap second is none either") from None
    microseconds = int(fraction[:6].ljust(6, "0")) if fraction else 0
    if fraction and fraction[6:7] >= "5":
        microseconds += 1
    offset = timedelta()
    if sign:
        hours, minutes = int(offset_hours), int(offset_minutes)
        if hours > 23 or minutes > 59:
            raise ValueError("an offset lies within a day, such as +05:30")
        offset = timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
    try:
        return moment + (timedelta(microseconds=microseconds) - offset)
    except OverflowError:
        raise ValueError("the moment lies outside the years 1 to 9999 in UTC") from None


def to_us(moment: datetime) -> int:
    """Return an aware `moment` as microseconds since 1970 (UTC)."""
    return (moment - EPOCH) // MICROSECOND


def from_us(time_us: int) -> datetime:
    """Return the moment that lies `time_us` microseconds after 1970 (UTC)."""
    return EPOCH + timedelta(microseconds=time_us)


def format_rfc3339(moment: datetime) -> str:
    """Return an aware `moment` as RFC 3339 text in UTC, with microseconds where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
