"""Option values are exact, and what cannot be meant is refused."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from meterstream.cli.options import Duration, Moment, Share


@pytest.mark.parametrize(
    ("text", "ppm"), [("2%", 20_000), ("0.02", 20_000), ("0.5%", 5_000), ("0", 0), ("1", 1_000_000)]
)
def test_shares_are_parts_in_a_million(text: str, ppm: int) -> None:
    """Percent and fraction are the same whole number of parts in a million."""
    assert Share().convert(text, None, None) == ppm


@pytest.mark.parametrize("text", ["2", "-1%", "101%", "many", "nan", "inf%", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    """A share lies between 0 and 1."""
    with pytest.raises(click.BadParameter):
        Share().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("24h", 86400), ("7d", 604800)]
)
def test_durations_have_a_unit(text: str, seconds: int) -> None:
    """A duration is a whole number and its unit."""
    assert Duration().convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["90", "0s", "1.5h", "-1d", "5 m", "1w", "m", "999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Without a unit, with a fraction or of no length at all it is refused."""
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_moments_need_an_offset() -> None:
    """A moment is read in UTC, and one without an offset is refused."""
    moment = Moment().convert("2026-01-31T13:00:00+01:00", None, None)
    assert moment == datetime(2026, 1, 31, 12, tzinfo=UTC)
    with pytest.raises(click.BadParameter):
        Moment().convert("2026-01-31 13:00:00", None, None)
