"""Usage of a time is read in the largest windows that are exact, then in larger ones that last."""

from datetime import UTC, datetime

import pytest

from meterstream.cli.usage_reading import readings
from meterstream.schemas.times import format_rfc3339, parse_rfc3339


def ways(since: str | None, until: str | None = None, zone: str = "UTC") -> list[str]:
    """Return the ways to read a time, each as `window zone since until`, short."""

    def short(moment: datetime | None) -> str:
        return format_rfc3339(moment)[5:16] if moment else "-"

    start, end = (parse_rfc3339(f"2026-{each}Z") if each else None for each in (since, until))
    return [f"{w} {z} {short(s)} {short(u)}" for w, z, s, u in readings(start, end, zone)]


def test_all_of_time_is_read_by_days_in_utc() -> None:
    """Days in UTC are kept for ever, and every zone's sum over all of time is the same."""
    assert ways(None, zone="Asia/Tokyo") == ["1d UTC - -"]


@pytest.mark.parametrize(
    ("since", "until", "first"),
    [
        ("03-01T00:00:00", None, "1d UTC 03-01T00:00 -"),
        ("03-01T00:00:00", "03-03T00:00:00", "1d UTC 03-01T00:00 03-03T00:00"),
        ("03-01T00:00:00", "03-03T05:45:00", "15m UTC 03-01T00:00 03-03T05:45"),
        ("03-01T00:15:00", None, "15m UTC 03-01T00:15 -"),
        ("03-01T00:16:00", "03-03T00:00:00", "1m UTC 03-01T00:16 03-03T00:00"),
        ("03-01T00:00:30", None, "1d UTC 03-01T00:00 -"),
        ("03-01T00:01:30", None, "1m UTC 03-01T00:01 -"),
        (None, "03-01T00:00:30", "1m UTC - 03-01T00:01"),
    ],
)
def test_the_largest_exact_windows_come_first(
    since: str | None, until: str | None, first: str
) -> None:
    """Windows that begin and end with the time are as exact as minutes, and quicker."""
    assert ways(since, until)[0] == first


def test_a_time_whose_minutes_are_gone_is_widened() -> None:
    """First to quarters of an hour, then to days in the zone, at last to days in UTC."""
    assert ways("03-01T10:16:00", "03-01T22:50:00", "Asia/Kathmandu") == [
        "1m Asia/Kathmandu 03-01T10:16 03-01T22:50",
        "15m Asia/Kathmandu 03-01T10:15 03-01T23:00",
        "1d Asia/Kathmandu 02-28T18:15 03-02T18:15",
        "1d UTC 03-01T00:00 03-02T00:00",
    ]
    assert ways("03-01T10:16:00")[-2:] == ["15m UTC 03-01T10:15 -", "1d UTC 03-01T00:00 -"]


def test_days_of_a_zone_have_23_to_25_hours() -> None:
    """A day that a clock change made shorter or longer is widened to its own midnights."""
    for day, end in (("03-29", "03-29T22:00"), ("10-25", "10-25T23:00")):
        (found,) = (
            w for w in ways(f"{day}T12:01:00", f"{day}T12:02:00", "Europe/Berlin") if "1d E" in w
        )
        assert found.endswith(end)


def test_moments_are_in_utc() -> None:
    """Whatever the zone, the times that are asked for are moments in UTC."""
    for way in readings(datetime(2026, 7, 1, 3, 7, tzinfo=UTC), None, "America/St_Johns"):
        assert way.since is not None
        assert way.since.tzinfo is UTC
