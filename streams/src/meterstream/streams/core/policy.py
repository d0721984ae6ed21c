"""The rules of the core that an operator may set, apart from any state."""

from dataclasses import dataclass
from typing import Final

from meterstream.schemas.journal.header import MAX_GRACE_SECONDS
from meterstream.schemas.thresholds import Owners

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
QUARTER_US: Final = 15 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

IDS_KEPT_LONGER_US: Final = HOUR_US
"""Ids outlive the horizon by this much, so that a resend at its edge is still recognised."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Immutable settings of the core, all in microseconds but for the number of partitions."""

    partitions: int
    """Partitions of the events topic: a team belongs to exactly one."""
    grace_us: int = 10 * MINUTE_US
    """How long after its end a minute still takes events."""
    horizon_us: int = DAY_US
    """How far back events are taken, and duplicates are recognised exactly."""
    ahead_us: int = 5 * MINUTE_US
    """How far ahead of the partition's clock an event may be."""
    clock_skew_us: int = 10 * MINUTE_US
    """A log time further ahead than this of the clock and the worker does not move the clock."""
    owners: Owners = "teams"
    """Whose limits are decided: those of teams, from their events, or those of organisations, from
    what their teams used."""

    def __post_init__(self) -> None:
        """Refuse settings under which a rule would contradict another."""
        if self.partitions < 1:
            raise ValueError(f"partitions must be 1 or more, not {self.partitions}")
        for name in ("grace_us", "horizon_us", "ahead_us", "clock_skew_us"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, it is {getattr(self, name)}")
        if self.grace_us % SECOND_US or self.grace_seconds > MAX_GRACE_SECONDS:
            raise ValueError(
                f"grace_us must be whole seconds, {MAX_GRACE_SECONDS} at most, for a journal"
                f" record tells it so; it is {self.grace_us}"
            )
        if self.horizon_us < self.grace_us + MINUTE_US:
            raise ValueError("the horizon must be longer than the grace and a minute")

    @property
    def grace_seconds(self) -> int:
        """The grace as journal records tell it."""
        return self.grace_us // SECOND_US
