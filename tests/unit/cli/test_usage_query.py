"""Usage is asked for exactly, and shown exactly."""

from datetime import UTC, datetime

import pytest

from meterstream.cli.errors import BadInput
from meterstream.cli.usage_query import UsageQuery, credits_text, milliseconds_text

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (1_234_567, "1.234567"),
        (-1_500_000, "-1.500000"),
        (9_007_199_254_740_993_000_001, "9,007,199,254,740,993.000001"),
    ],
)
def test_credits_are_shown_to_the_micro(micro: int, text: str) -> None:
    """Credits never pass through a float, so the last digit is right however large they are."""
    assert credits_text(micro) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(None, "-"), (0, "0.0"), (1_249, "1.2"), (1_250, "1.3"), (10**9, "1,000,000.0")],
)
def test_latencies_are_shown_in_milliseconds(microseconds: int | None, text: str) -> None:
    """One decimal, rounded half up."""
    assert milliseconds_text(microseconds) == text


def test_what_the_user_gives_is_a_parameter() -> None:
    """Zone and times are bound, never part of the statement."""
    query = UsageQuery("user", window="1h", zone="Asia/Kolkata", since=NEW_YEAR)
    (reading,) = query.readings()
    sql, parameters = query.sql(reading)
    assert "Kolkata" not in sql
    assert "2026" not in sql
    assert parameters == {
        "window": "1h",
        "zone": "Asia/Kolkata",
        "since": "2026-01-01T00:00:00Z",
        "until": "",
    }


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc/passwd", "Europe"])
def test_unknown_zones_are_refused(zone: str) -> None:
    """A zone that the time zone database lacks is refused before ClickHouse is asked."""
    with pytest.raises(BadInput, match="is no time zone"):
        UsageQuery("team", zone=zone)


def test_an_empty_time_is_refused() -> None:
    """Since must lie before until."""
    with pytest.raises(BadInput, match="--since must lie before --until"):
        UsageQuery("team", since=NEW_YEAR, until=NEW_YEAR)


@pytest.mark.parametrize("year", [1, 1969, 2105, 9999])
def test_times_that_clickhouse_cannot_hold_are_refused(year: int) -> None:
    """A time that would wrap around in ClickHouse is refused by the option's name."""
    moment = NEW_YEAR.replace(year=year)
    with pytest.raises(BadInput, match=r"--since must lie in the years 1970 to 2104"):
        UsageQuery("team", since=moment)
    with pytest.raises(BadInput, match=r"--until must lie in the years 1970 to 2104"):
        UsageQuery("team", until=moment)
