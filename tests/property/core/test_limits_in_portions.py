"""Limits that are told in portions cross as if they were told at once, whatever happens between."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import CoreMeter, read_table
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Json,
    batch_of,
    encode,
    envelope,
    run,
    void,
)

from meterstream.schemas.journal import Header, Section, unpack_sections
from meterstream.streams.core import Entry, EventBatch, Policy, next_batch, stands_of
from meterstream.streams.core.limits import Stand

AT_ONCE = 1_000_000
PUBLISHED = ("limit_version", "window_start", "used", "reached_permille", "blocked")
TEAMS = ("a", "b", "c")
USERS = ("", "u")
WINDOWS = ("day", "month")

a_few = settings(max_examples=share(12), deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Run:
    """A run of somebody, some time before or after the clock."""

    team: str
    user: str
    ago_us: int


@dataclass(frozen=True)
class Setting:
    """A limit that is set to an amount of runs, or removed."""

    team: str
    user: str
    window: str
    amount: int | None
    hard: bool


@dataclass(frozen=True)
class Turn:
    """What one step is given."""

    later_us: int
    """How far the clock goes on with it, where it has runs."""
    runs: tuple[Run, ...]
    settings: tuple[Setting, ...]
    moves: tuple[tuple[str, str], ...]
    voids: bool
    """Whether the first run that was counted is taken back."""


teams = st.sampled_from(TEAMS)
users = st.sampled_from(USERS)
some_settings = st.builds(
    Setting,
    teams,
    users,
    st.sampled_from(WINDOWS),
    st.sampled_from((None, 0, 1, 2, 3)),
    st.booleans(),
)
some_runs = st.builds(Run, teams, users, st.sampled_from((0, MINUTE, DAY, -HOUR, -MINUTE)))
turns = st.lists(
    st.builds(
        Turn,
        st.sampled_from((0, MINUTE, 30 * MINUTE, 13 * HOUR, DAY, 20 * DAY)),
        st.lists(some_runs, max_size=6).map(tuple),
        st.lists(some_settings, max_size=2).map(tuple),
        st.lists(st.tuples(teams, st.sampled_from(("UTC", "Asia/Kolkata"))), max_size=1).map(tuple),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)
firsts = st.lists(some_settings, min_size=3, max_size=12).map(tuple)
portions = st.lists(st.integers(1, 4), min_size=1, max_size=6)
ways = st.lists(st.sampled_from(("journal", "snapshot", "old", None)), min_size=1, max_size=5)


@dataclass
class Given:
    """Turns as the records that a meter is given, the same for every meter."""

    steps: list[tuple[EventBatch | None, list[Entry], list[Entry]]] = field(default_factory=list)
    clock_us: int = NOW
    _position: int = 0
    _versions: dict[tuple[str, str], int] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=lambda: {"catalog": 0, "control": 0})
    _runs: list[Json] = field(default_factory=list)

    def take(self, turn: Turn) -> None:
        """Add a turn."""
        voids = [void(self._runs.pop(0))] if turn.voids and self._runs else []
        if turn.runs:
            self.clock_us += turn.later_us
        events = [self._run(i, one) for i, one in enumerate(turn.runs)]
        batch = None
        if events:
            batch = batch_of(self._position, events, [self.clock_us] * len(events))
            self._position = batch.end
            self._runs += events
        control = [self._set(one) for one in turn.settings]
        catalog = [
            envelope(
                "team.registered",
                f"{team}-{zone}-{len(self.steps)}",
                self.clock_us,
                {"team_id": team, "organisation_id": "o", "name": "n", "zone": zone},
            )
            for team, zone in turn.moves
        ]
        self.steps.append(
            (
                batch,
                self._entries("catalog", catalog),
                self._entries("control", [*(one for one in control if one), *voids]),
            )
        )

    def _run(self, i: int, one: Run) -> Json:
        data: Json = {"team_id": one.team} | ({"user_id": one.user} if one.user else {})
        return run(f"r-{self._position + i}", self.clock_us - one.ago_us, **data)

    def _set(self, one: Setting) -> Json | None:
        limit_id = f"{one.user}-{one.window}"
        version = self._versions.get((one.team, limit_id), 0) + 1
        if one.amount is None and version == 1:
            return None
        self._versions[one.team, limit_id] = version
        data: Json = {"team_id": one.team, "limit_id": limit_id, "version": version}
        if one.amount is None:
            return envelope("limit.removed", f"{one.team}-{version}", NOW, data)
        data |= {
            "subject": "user" if one.user else "team",
            "measure": "runs",
            "window": one.window,
            "amount": one.amount,
            "alert_levels_permille": [500, 1000],
            "enforcement": "hard" if one.hard else "soft",
        }
        if one.user:
            data["subject_id"] = one.user
        return envelope("limit.set", f"{one.team}-{version}", NOW, data)

    def _entries(self, topic: str, events: list[Json]) -> list[Entry]:
        first = self._counts[topic]
        self._counts[topic] += len(events)
        return [Entry(first + i, self.clock_us, None, encode(one)) for i, one in enumerate(events)]


def decided(given_: Given, portions: list[int], restarts: list[str | None]) -> CoreMeter:
    """Return a meter that has taken it all, and told all that it has to tell."""
    meter = CoreMeter(Policy(1), 0, clock_us=NOW)
    steps = 0

    def take(
        batch: EventBatch | None, catalog: list[Entry] | None = None, control: Any = ()
    ) -> None:
        nonlocal steps
        portion, how = portions[steps % len(portions)], restarts[steps % len(restarts)]
        meter.step(batch, given_.clock_us, catalog or [], control, portion=portion)
        steps += 1
        if how is not None:
            meter.restart(how)

    for batch, catalog, control in given_.steps:
        part, rest = batch, batch
        while batch is not None and rest is not None:
            part, rest = next_batch(meter.state, rest)
            if rest is not None:
                take(part)
        take(part, catalog, control)
    while meter.state.is_due:
        take(None)
    return meter


Story = dict[tuple[str, str], list[tuple[object, ...]]]


def told(meter: CoreMeter) -> tuple[Story, dict[tuple[str, str], tuple[object, ...]]]:
    """Return what was told of each limit, in its order, and the last state that is published."""
    story: Story = defaultdict(list)
    states: dict[tuple[str, str], tuple[object, ...]] = {}
    for _, _, packed, value in meter.journal:
        now_us, sections = Header.unpack(packed).clock_us, unpack_sections(value)
        for one in json.loads(bytes(sections.get(Section.CROSSINGS, b"[]"))):
            cause = one.get("cause", {}).get("offset")
            story[one["team_id"], one["limit_id"]].append(
                (
                    one["kind"], one["limit_version"], one["window_start_us"],
                    one.get("level_permille"), one.get("reason"), cause,
                    None if cause is None else one["used"],
                )
            )  # fmt: skip
        if Section.LIMIT_STATES in sections:
            for row in read_table(sections[Section.LIMIT_STATES]):
                if row["removed"]:
                    states.pop((row["team_id"], row["limit_id"]), None)
                elif row["window_start"] <= now_us < row["window_end"]:
                    states[row["team_id"], row["limit_id"]] = tuple(map(row.get, PUBLISHED))
    return dict(story), states


def reached(meter: CoreMeter) -> set[Stand]:
    """Return the levels that are reached in windows which may still take events."""
    over_us = meter.state.clock_us - meter.policy.horizon_us
    return {one for one in stands_of(meter.state.reached) if one.window.end_us > over_us}


@given(firsts, turns, portions, ways)
@a_few
def test_portions_make_no_difference(
    first: tuple[Setting, ...],
    some: list[Turn],
    portions: list[int],
    restarts: list[str | None],
) -> None:
    """Levels, blocked and reset are told of each limit, by the same events and in one order."""
    given_ = Given()
    for turn in (Turn(0, (), first, (), False), *some):
        given_.take(turn)
    at_once = decided(given_, [AT_ONCE], [None])
    in_portions = decided(given_, portions, restarts)
    assert told(in_portions) == told(at_once)
    assert in_portions.state.telling is None
    assert reached(in_portions) == reached(at_once)
