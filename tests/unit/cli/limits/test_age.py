"""How old what is shown is, in words."""

from datetime import UTC, datetime, timedelta

import pytest

from meterstream.cli.limits.age import age_text, counted_note

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119.9, "119 s"), (120, "2 minutes"), (7_200, "2 hours"), (172_800, "2 days")],
)
def test_the_unit_fits(seconds: float, text: str) -> None:
    """Whole ones are told, of the largest unit of which there are two."""
    assert age_text(timedelta(seconds=seconds)) == text


def test_what_is_old_says_so() -> None:
    """A minute without news means that something does not run; a clock that is ahead does not."""
    fresh = counted_note(NOW - timedelta(seconds=4), NOW)
    assert fresh == "note: counted until 2026-07-01T11:59:56Z, 4 s ago"
    assert counted_note(NOW + timedelta(seconds=4), NOW).endswith("0 s ago")
    old = counted_note(NOW - timedelta(hours=3), NOW, "usage of organisations ")
    assert old.startswith("note: usage of organisations counted until 2026-07-01T09:00:00Z, 3 hour")
    assert old.endswith("do meter and publisher run?")
