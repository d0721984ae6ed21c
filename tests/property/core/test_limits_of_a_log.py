"""Limits over whole logs: borders, restarts and the slow count of what the journal says."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import CoreMeter, batches, contents_of, read_table
from tests.support.craft import envelope
from tests.support.events import START_US, Mix, encode, make_records, rate_card
from tests.support.model import DAY_US, HOUR_US, Record

from meterstream.schemas.journal import Header, Kind, Section, unpack_sections
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.topics import EVENTS
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import Entry, Policy

NOW_US = START_US + 40 * HOUR_US
POLICY = Policy(4)
BUSY = Mix(resends=300, conflicts=100, late=200, too_late=50, gaps=100, sessions=300)

logs = st.builds(
    lambda seed, size, step_us: make_records(seed, size, mix=BUSY, step_us=step_us),
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.sampled_from((20_000_000, 400_000_000, 2_000_000_000)),
)
borders = st.lists(st.integers(1, 60), max_size=12)
ways = st.lists(st.sampled_from(("journal", "snapshot", "old", None)), min_size=1, max_size=6)
a_few = settings(max_examples=share(20), deadline=None, suppress_health_check=list(HealthCheck))


def limits_for(teams: list[str]) -> list[Entry]:
    """Return limits on all measures of each team, and on whatever users and agents have."""
    found: list[Entry] = []
    for team in teams:
        for measure, amount in (
            ("credits", 40_000),
            ("tokens", 20_000),
            ("runs", 6),
            ("api_calls", 2),
            ("sessions", 1),
        ):
            for window in ("day", "month"):
                found.append(_limit(len(found), team, measure, window, amount))
        for subject in ("user", "agent", "project", "feature"):
            found.append(_limit(len(found), team, "runs", "day", 2, subject, f"{subject}-1"))
    return found


def _limit(
    offset: int, team: str, measure: str, window: str, amount: int,
    subject: str = "team", subject_id: str | None = None,
) -> Entry:  # fmt: skip
    data: dict[str, Any] = {
        "team_id": team, "limit_id": f"{subject}-{measure}-{window}", "version": 1,
        "subject": subject, "measure": measure, "window": window, "amount": amount,
        "alert_levels_permille": [500, 900], "enforcement": "hard",
    }  # fmt: skip
    if subject_id is not None:
        data["subject_id"] = subject_id
    event = envelope("limit.set", f"l-{offset}", START_US, data)
    return Entry(offset, START_US - 4 * DAY_US, team.encode(), json.dumps(event).encode())


@dataclass
class Told:
    """What the records of a journal say of limits."""

    reached: list[dict[str, Any]] = field(default_factory=list)
    states: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    blocking: set[tuple[str, str]] = field(default_factory=set)
    """By what was told of limits that began or ceased to block."""

    def read(self, packed: bytes, value: bytes) -> None:
        """Take a record."""
        header = Header.unpack(packed)
        header.check_value(value)
        sections = unpack_sections(value)
        if Section.CROSSINGS in sections:
            for one in json.loads(bytes(sections[Section.CROSSINGS])):
                self._cross(one)
        if Section.LIMIT_STATES in sections:
            for row in read_table(sections[Section.LIMIT_STATES]):
                self.states[row["team_id"], row["limit_id"], row["window_start"]] = row
        if header.kind is Kind.STEP:
            now = header.clock_us
            assert self.blocking == {
                (row["team_id"], row["limit_id"])
                for row in self.states.values()
                if row["blocked"] and row["window_start"] <= now < row["window_end"]
            }

    def _cross(self, one: dict[str, Any]) -> None:
        key = one["team_id"], one["limit_id"]
        match one["kind"]:
            case "reached":
                self.reached.append(one)
            case "blocked":
                assert key not in self.blocking
                self.blocking.add(key)
            case "reset":
                self.blocking.remove(key)

    def used(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Return the states of windows in which something was used."""
        return {place: row for place, row in self.states.items() if row["used"]}


def teams_of(records: list[Record]) -> list[str]:
    """Return the teams of the partition that appear in a log."""
    found: set[str] = set()
    for record in records:
        try:
            event: Any = parse_event(record.value, EVENTS)
        except InvalidEvent:
            continue
        if partition_of(event.data.team_id, 4) == 0:
            found.add(event.data.team_id)
    return sorted(found)


def run(
    records: list[Record], cuts: list[int], restarts: list[str | None], zone: str
) -> tuple[CoreMeter, Told]:
    """Return a meter that has taken the records, and what its journal says of limits."""
    meter = CoreMeter(POLICY, 0, clock_us=START_US)
    catalog = [Entry(0, START_US, None, rate_card())]
    teams = teams_of(records)
    for team in teams:
        data = {"team_id": team, "organisation_id": "o", "name": "n", "zone": zone}
        registered = encode(envelope("team.registered", team, START_US, data))
        catalog.append(Entry(len(catalog), START_US, None, registered))
    meter.step(None, NOW_US, catalog, limits_for(teams))
    for i, batch in enumerate(batches(records, cuts)):
        meter.step(batch, NOW_US)
        how = restarts[i % len(restarts)] if restarts else None
        if how is not None:
            meter.restart(how)
    told = Told()
    for _, _, packed, value in meter.journal:
        told.read(packed, value)
    return meter, told


zones = st.sampled_from(("UTC", "Asia/Kolkata", "America/St_Johns"))


@given(logs, borders, borders, zones)
@a_few
def test_borders_make_no_difference(
    records: list[Record], some: list[int], others: list[int], zone: str
) -> None:
    """Two meters that cut one log differently tell the same levels, states and what blocks."""
    first, second = (run(records, cuts, [], zone)[1] for cuts in (some, others))
    assert first.reached == second.reached
    assert first.used() == second.used()
    assert first.blocking == second.blocking


@given(logs, borders, ways, zones)
@a_few
def test_restarts_make_no_difference(
    records: list[Record], cuts: list[int], restarts: list[str | None], zone: str
) -> None:
    """A meter that restarts, from its journal or a snapshot, writes the very same records."""
    steady, _ = run(records, cuts, [], zone)
    restarted, _ = run(records, cuts, restarts, zone)
    assert [header for _, _, header, _ in restarted.journal] == [
        header for _, _, header, _ in steady.journal
    ]
    assert contents_of(restarted.state) == contents_of(steady.state)


@given(logs, borders)
@a_few
def test_limits_agree_with_what_was_counted(records: list[Record], cuts: list[int]) -> None:
    """Runs, tokens and credits of each team and day are those of the counted events."""
    meter, told = run(records, cuts, [], "UTC")
    counted = meter.reader.counted
    runs: Counter[tuple[str, int]] = Counter()
    tokens: Counter[tuple[str, int]] = Counter()
    credits_micro: Counter[tuple[str, int]] = Counter()
    causes: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        if counted.verdicts.get(record.offset) is not Verdict.COUNTED:
            continue
        event = parse_event(record.value, EVENTS)
        day_us = int(event.time.timestamp()) // 86_400 * DAY_US
        place = (event.data.team_id, day_us)  # type: ignore[attr-defined]
        if record.offset in counted.charges:
            credits_micro[place] += counted.charges[record.offset].credits_micro
        if isinstance(event, RunCompleted):
            runs[place] += 1
            tokens[place] += event.data.input_tokens + event.data.output_tokens
            causes[place].append(record.offset)
    for measure, expected in (("runs", runs), ("tokens", tokens), ("credits", credits_micro)):
        found = {
            (team, start): row["used"]
            for (team, limit, start), row in told.states.items()
            if limit == f"team-{measure}-day" and row["used"]
        }
        assert found == +expected
    reached = {
        (one["team_id"], one["window_start_us"], one["level_permille"]): one["cause"]["offset"]
        for one in told.reached
        if one["limit_id"] == "team-runs-day"
    }
    assert reached == {
        (team, day_us, level): offsets[needed - 1]
        for (team, day_us), offsets in causes.items()
        for level, needed in ((500, 3), (900, 6))
        if len(offsets) >= needed
    }
