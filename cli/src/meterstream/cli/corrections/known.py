"""Corrections that were made, by the meter's own rules, and what they leave of a run."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from meterstream.cli.connection import Connection
from meterstream.cli.entries.governed import governing
from meterstream.schemas.control import UsageAdjusted, UsageVoided
from meterstream.schemas.registry import InvalidEvent
from meterstream.streams.core.corrections import (
    VOID,
    CorrectionEvent,
    content_of,
    is_new,
    number_of,
)

from .runs import AMOUNTS, CountedRun

Identity = tuple[str, str, str]
"""Team, source and id of a run's event."""


RERATING: Final = "rerating/"
"""What the ids of entries begin with that rerating wrote."""


@dataclass(slots=True)
class Made:
    """The corrections of one run: their content by number, and what they add up to."""

    numbers: dict[int, int] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AMOUNTS, 0))
    card: str = ""
    """The card that the last of them names."""
    by_hand: bool = False
    """Whether its credits were adjusted otherwise than by rerating."""
    notes: list[tuple[int, int, str, datetime]] = field(default_factory=list)
    """Of each its number, credits, reason and when it was written."""

    @property
    def is_void(self) -> bool:
        """Whether the run was voided."""
        return VOID in self.numbers

    @property
    def next_number(self) -> int:
        """The number of the next adjustment."""
        return max(self.numbers, default=0) + 1


NONE: Final = Made()
"""What a run has that was never corrected."""


def read_corrections(connection: Connection, team_id: str | None = None) -> dict[Identity, Made]:
    """Return the corrections of a team's runs, or of all, by identity."""
    return fold_corrections(governing(connection, (UsageAdjusted, UsageVoided), team_id))


def fold_corrections(
    events: Iterable[tuple[CorrectionEvent, datetime]],
) -> dict[Identity, Made]:
    """Return what corrections leave, in the order in which they stand; refused ones are none."""
    found: dict[Identity, Made] = {}
    for event, at in events:
        data = event.data
        identity = data.team_id, data.original_source, data.original_id
        made = found.setdefault(identity, Made())
        try:
            if not is_new(made.numbers, event):
                continue
        except InvalidEvent:
            continue
        made.numbers[number_of(event)] = content_of(event)
        for name in AMOUNTS:
            made.sums[name] += getattr(data, name)
        made.card = data.card
        made.by_hand |= bool(data.credits_micro) and not event.id.startswith(RERATING)
        made.notes.append((number_of(event), data.credits_micro, data.reason or "", at))
    return found


def amounts_now(run: CountedRun, made: Made) -> dict[str, int]:
    """Return what a run amounts to by now."""
    return {name: run.amounts[name] + made.sums[name] for name in AMOUNTS}
