"""How old what is shown is, in words."""

from datetime import datetime, timedelta
from typing import Final

from meterstream.schemas.times import format_rfc3339

OLD: Final = timedelta(minutes=1)
"""Older than this something does not run: without events the clocks move on each few seconds."""


def age_text(age: timedelta) -> str:
    """Return a time span in the unit that fits it."""
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def counted_note(until: datetime, now: datetime, of: str = "") -> str:
    """Return the line that says up to when was counted, and what to look at where that is old."""
    # Times of the broker: its clock may be ahead of this one.
    age = max(timedelta(0), now - until)
    text = f"note: {of}counted until {format_rfc3339(until)}, {age_text(age)} ago"
    return text if age <= OLD else f"{text}: that is old, do meter and publisher run?"
