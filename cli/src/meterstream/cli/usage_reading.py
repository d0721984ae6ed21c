"""How usage of a time without windows of its own is read: by minutes, quarters of an hour or days.

A sum over a time may be made of windows of any size that begins and ends with it. Coarse ones are
quick and are kept for long; minutes are exact to the minute and kept for weeks.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_SIZES: Final = ("1m", "15m", "1d")
_QUARTER: Final = timedelta(minutes=15)
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Reading(NamedTuple):
    """The windows that usage is read in, and the time that whole ones of them cover."""

    window: str
    zone: str
    since: datetime | None
    until: datetime | None


def readings(since: datetime | None, until: datetime | None, zone: str) -> tuple[Reading, ...]:
    """Return the ways to read usage from `since` up to `until`, in the order to try them.

    The first is as exact as minutes are, with the largest windows for that. Those after it are for
    times whose smaller windows are no longer kept: they are widened to larger windows, at last to
    days in UTC, which are kept for ever.
    """
    if since is None and until is None:
        return (Reading("1d", "UTC", None, None),)
    ways = [
        Reading(
            size,
            zone,
            since and _floor(since, size, zone),
            until and _ceiling(until, size, zone),
        )
        for size in _SIZES
    ]
    exact = max(i for i, way in enumerate(ways) if way[2:] == ways[0][2:])
    in_utc = Reading(
        "1d", "UTC", since and _floor(since, "1d", "UTC"), until and _ceiling(until, "1d", "UTC")
    )
    return (*ways[exact:], in_utc) if zone != "UTC" else tuple(ways[exact:])


def _floor(moment: datetime, size: str, zone: str) -> datetime:
    if size == "1d":
        local = moment.astimezone(ZoneInfo(zone))
        return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
    step = _QUARTER if size == "15m" else _MINUTE
    return moment - (moment - _EPOCH) % step


def _ceiling(moment: datetime, size: str, zone: str) -> datetime:
    floor = _floor(moment, size, zone)
    if floor == moment:
        return floor
    if size == "1d":
        return _floor(floor + timedelta(hours=36), size, zone)
    return floor + (_QUARTER if size == "15m" else _MINUTE)
