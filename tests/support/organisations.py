"""What teams used, as organisations are told of it: events made by hand, and counted slowly."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.craft import envelope
from tests.support.events import encode
from tests.support.model import Record

from meterstream.streams.core import Entry

QUARTER_US = 900_000_000
MEASURES = ("credits_micro", "tokens", "runs", "api_calls", "sessions")
MEASURE_OF = dict(
    zip(("credits", "tokens", "runs", "api_calls", "sessions"), MEASURES, strict=True)
)


@dataclass(frozen=True)
class Told:
    """One event of org-usage."""

    organisation: str
    team: str
    name: str
    """Events of one name are one event that was sent again."""
    log_time_us: int
    uses: tuple[tuple[int, tuple[int, ...]], ...]
    """Start of a quarter in microseconds, and the amounts of MEASURES."""
    corrects: bool = False
    partition: int = 0
    position: int = 0
    more: bool = False

    def value(self) -> bytes:
        """Return its bytes."""
        data: dict[str, Any] = {
            "organisation_id": self.organisation,
            "team_id": self.team,
            "as_of": {
                "events_topic_id": "00000000-0000-0000-0000-000000000007",
                "generation": 1,
                "partition": self.partition,
                "journal_offset": self.position,
                "events_position": self.position,
            },
            "more": self.more,
            "corrects": self.corrects,
            "uses": [
                {"quarter_start": _text(start_us)} | dict(zip(MEASURES, amounts, strict=True))
                for start_us, amounts in self.uses
            ],
        }
        event = envelope("organisation.used", self.name, 0, data)
        event["time"] = _text(self.log_time_us // QUARTER_US * QUARTER_US)
        return encode(event)


def _text(time_us: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return at.isoformat().replace("+00:00", "Z")


def records_of(events: Iterable[Told]) -> list[Record]:
    """Return them as a log."""
    return [Record(i, one.log_time_us, one.value()) for i, one in enumerate(events)]


def limit(
    offset: int, organisation: str, measure: str, window: str, amount: int, at_us: int,
    version: int = 1, limit_id: str | None = None,
) -> Entry:  # fmt: skip
    """Return the entry that sets a hard limit with levels at half, nine tenths and all of it."""
    data = {
        "organisation_id": organisation, "limit_id": limit_id or f"{measure}-{window}",
        "version": version, "subject": "organisation", "measure": measure, "window": window,
        "amount": amount, "alert_levels_permille": [500, 900, 1000], "enforcement": "hard",
    }  # fmt: skip
    event = envelope("limit.set", f"l-{offset}", at_us, data)
    return Entry(offset, at_us, organisation.encode(), json.dumps(event).encode())


@dataclass
class SlowCount:
    """The same rules, one event after the other."""

    limits: Sequence[tuple[str, str, str, int]]
    """Organisation, measure, window (day or month, UTC) and amount."""
    known: set[tuple[str, str]] = field(default_factory=set)
    used: dict[tuple[str, str, str, datetime], int] = field(default_factory=dict)
    """By organisation, measure, window and its start."""
    reached: dict[tuple[str, str, str, datetime, int], int] = field(default_factory=dict)
    """The offset of the event that reached a level."""
    counted: dict[int, int] = field(default_factory=dict)

    def take(self, offset: int, event: Told) -> None:
        """Count an event, once."""
        if (event.organisation, event.name) in self.known:
            return
        self.known.add((event.organisation, event.name))
        if not event.more:
            self.counted[event.partition] = event.position
        for start_us, amounts in event.uses:
            day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start_us)
            day = day.replace(hour=0, minute=0)
            for organisation, measure, window, amount in self.limits:
                if organisation != event.organisation:
                    continue
                added = amounts[MEASURES.index(MEASURE_OF[measure])]
                start = day if window == "day" else day.replace(day=1)
                place = organisation, measure, window, start
                self.used[place] = self.used.get(place, 0) + added
                for level in (500, 900, 1000) if added > 0 and not event.corrects else ():
                    if self.used[place] * 1000 >= amount * level:
                        self.reached.setdefault((*place, level), offset)
