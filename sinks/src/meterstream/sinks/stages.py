"""The two stages of metering, as a sink sees them: a journal each, and what belongs to it."""

from dataclasses import dataclass
from typing import Final

from meterstream.schemas.topics import JOURNAL, ORG_JOURNAL


@dataclass(frozen=True, slots=True)
class Stage:
    """A journal that is followed."""

    journal: str
    """Its topic, as `schemas.topics` calls it."""
    ledger: str
    """The table that has what became of the offsets that it decides."""
    meter: str
    """The command of the meter that writes it."""


TEAMS: Final = Stage(JOURNAL, "ledger", "meterstream meter")
ORGANISATIONS: Final = Stage(
    ORG_JOURNAL, "organisation_ledger", "meterstream meter --organisations"
)
