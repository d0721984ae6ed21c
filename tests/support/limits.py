"""What a journal tells of limits, made by hand: rows, crossings, records as the client has them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError
from tests.support.journal import DAY_US, Writer, arrow

from meterstream.schemas.control import LIMIT_REMOVED
from meterstream.schemas.journal import HEADER_KEY, Kind, Section
from meterstream.schemas.rows import LIMIT_STATE, TEAM_USAGE
from meterstream.streams.journal.reader import JournalRecord

DAY_1_US = 20_000 * DAY_US
"""A midnight, UTC."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A journal record as the client delivers it."""

    at: int
    at_us: int
    packed: bytes | None
    content: bytes
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return "journal"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def headers(self) -> list[tuple[str, bytes]]:
        return [] if self.packed is None else [(HEADER_KEY, self.packed)]

    def timestamp(self) -> tuple[int, int]:
        return 2, self.at_us // 1000

    def value(self) -> bytes:
        return self.content


def limit_row(limit_id: str = "l-1", start_us: int = DAY_1_US, **values: Any) -> Json:
    """Return a row of LIMIT_STATES: a hard limit of team-1, a day from `start_us` on."""
    return {
        "team_id": "team-1",
        "limit_id": limit_id,
        "limit_version": 1,
        "subject": "team",
        "subject_id": "",
        "measure": "tokens",
        "window": "day",
        "window_start": start_us,
        "window_end": start_us + DAY_US,
        "amount": 1000,
        "enforcement": "hard",
        "used": 0,
        "reached_permille": 0,
        "blocked": 0,
        **values,
    }


def crossing(kind: str, limit_id: str = "l-1", start_us: int = DAY_1_US, **values: Any) -> Json:
    """Return a row of CROSSINGS of a day's limit of team-1; what is None is left out."""
    row = {
        "kind": kind,
        "team_id": "team-1",
        "limit_id": limit_id,
        "limit_version": 1,
        "subject": "team",
        "subject_id": None,
        "measure": "tokens",
        "window": "day",
        "window_start_us": start_us,
        "window_end_us": start_us + DAY_US,
        "amount": 1000,
        "used": 1000,
        "cause": {"offset": 7, "source": "/tests", "id": "e-7"},
    }
    if kind in ("reached", "low"):
        row["level_permille"] = 1000
    if kind == "reset":
        row["reason"] = "window"
    return row | values


def removed(limit_id: str = "l-1", **owner: str) -> list[Any]:
    """Return the entry of CONTROL that removes a limit, of team-1 if it is not told."""
    data = (owner or {"team_id": "team-1"}) | {"limit_id": limit_id, "version": 2}
    return [3, DAY_1_US, json.dumps({"type": LIMIT_REMOVED, "data": data})]


@dataclass
class LimitJournal:
    """A journal partition that tells of limits; `log` holds its records in the client's form."""

    writer: Writer = field(default_factory=Writer)
    log: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the first generation at DAY_1_US."""
        self._keep(self.writer.genesis(DAY_1_US))

    def step(
        self,
        states: Iterable[Mapping[str, Any]] = (),
        *,
        crossings: Iterable[Json] = (),
        control: Iterable[list[Any]] = (),
        rejects: Iterable[list[Any]] = (),
        used: Iterable[Json] = (),
        counted: Iterable[list[Any]] = (),
        clock_us: int | None = None,
    ) -> JournalRecord:
        """Append a step that tells this; `used` are rows of TEAM_USAGE."""
        sections = {
            Section.CROSSINGS: json.dumps(list(crossings)).encode(),
            Section.CONTROL: json.dumps(list(control)).encode(),
            Section.REJECTS: json.dumps(list(rejects)).encode(),
            Section.COUNTED: json.dumps(list(counted)).encode(),
        }
        found = {section: data for section, data in sections.items() if data != b"[]"}
        if states:
            found[Section.LIMIT_STATES] = arrow(LIMIT_STATE, states)
        if used:
            found[Section.TEAM_USAGE] = arrow(TEAM_USAGE, used)
        return self._keep(self.writer.record(Kind.STEP, sections=found, clock_us=clock_us))

    def idle(self, clock_us: int) -> JournalRecord:
        """Append an idle record that moves the clock."""
        return self._keep(self.writer.idle(clock_us))

    def new_generation(self, counted: Iterable[list[Any]] = ()) -> JournalRecord:
        """Append the genesis of the next generation, which tells what is counted with it."""
        self.writer.generation += 1
        sections = {Section.COUNTED: json.dumps(list(counted)).encode()}
        found = {section: data for section, data in sections.items() if data != b"[]"}
        return self._keep(self.writer.record(Kind.GENESIS, sections=found))

    def _keep(self, made: Any) -> JournalRecord:
        self.log.append(Entry(made.offset, made.timestamp_us, made.header.pack(), made.value))
        size = len(made.value)
        return JournalRecord(made.offset, made.timestamp_us, made.header, made.value, size)
