"""When coarse windows are complete, as a function of a partition's clock."""

from dataclasses import dataclass
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_S: Final = 60
QUARTER_S: Final = 15 * MINUTE_S
DAY_S: Final = 24 * 3600

FOREVER_S: Final = (2**32 - 1) // DAY_S * DAY_S
"""The last day that a DateTime holds: a generation that has ended is closed until then."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Until when (seconds since 1970, exclusive) the coarse windows of a partition are closed."""

    quarter_s: int
    day_s: int

    def limited_to(self, other: "Closed") -> "Closed":
        """Return the earlier of both, grain by grain."""
        return Closed(min(self.quarter_s, other.quarter_s), min(self.day_s, other.day_s))

    def extended_to(self, other: "Closed") -> "Closed":
        """Return the later of both, grain by grain."""
        return Closed(max(self.quarter_s, other.quarter_s), max(self.day_s, other.day_s))


CLOSED_FOREVER: Final = Closed(FOREVER_S, FOREVER_S)


def closed_at(clock_us: int, grace_us: int) -> Closed:
    """Return what is closed at `clock_us`: each window whose end plus the grace has passed."""
    passed_s = max(0, clock_us - grace_us) // SECOND_US
    return Closed(passed_s // QUARTER_S * QUARTER_S, passed_s // DAY_S * DAY_S)


def closed_before(window_start_s: int) -> Closed:
    """Return what may be closed at most while the minute at `window_start_s` is not stored."""
    return Closed(window_start_s // QUARTER_S * QUARTER_S, window_start_s // DAY_S * DAY_S)
