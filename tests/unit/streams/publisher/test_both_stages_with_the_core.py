"""From runs of teams to limits of their organisations: two meters, and their publishers."""

import json
from typing import Any

from tests.support.craft import MINUTE, NOW, Partition, batch_of, entries, envelope, run, void
from tests.support.limits import Entry as JournalEntry

from meterstream.schemas.journal import ChainReader
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import LimitHeartbeat, LimitState
from meterstream.schemas.topics import THRESHOLDS
from meterstream.streams.core import Entry, EventBatch, Policy, next_batch
from meterstream.streams.publisher.counted import Counted
from meterstream.streams.publisher.pending import Pending
from meterstream.streams.publisher.reading import Reading
from meterstream.streams.publisher.team_usage import TeamUsage


class Stages:
    """A partition of teams, one of organisations, and the publishers of both."""

    def __init__(self) -> None:
        self.teams = Partition()
        self.organisations = Partition(Policy(1, owners="organisations"))
        self._of_teams = reading_of(Pending(0, "/t", 100, usage=TeamUsage("/events", 1)))
        self._of_organisations = reading_of(Pending(0, "/t", 100, counted=Counted()))

    def told(self) -> list[tuple[str, str, Any]]:
        """Bring what teams used to the organisations; return what is told of their limits.

        That is kind, limit, and level, or how much was used.
        """
        follow(self._of_teams, self.teams)
        usage = [one.value for one in self._of_teams.pending.usage]
        self._of_teams.pending.clear()
        state = self.organisations.state
        times = [self.teams.state.clock_us] * len(usage)
        waiting: EventBatch | None = batch_of(state.events_position, usage, times)
        while waiting is not None:
            part, waiting = next_batch(state, waiting)
            self.organisations.take_batch(part)
        follow(self._of_organisations, self.organisations)
        found = []
        for one in self._of_organisations.pending.thresholds:
            event: Any = parse_event(one.value, THRESHOLDS)
            assert one.key.decode() == event.data.organisation_id
            assert event.data.cause is None or event.data.cause.team_id in ("t-1", "t-2")
            level = getattr(event.data, "level_permille", event.data.used)
            found.append((one.kind, event.data.limit_id, level))
        return found

    def states(self) -> dict[str, tuple[str, int]]:
        """Return state and use of each limit that is to be published, by organisation."""
        pending, place = self._of_organisations.pending, self._of_organisations.place()
        assert place is not None
        found: dict[str, tuple[str, int]] = {}
        for key, value in pending.states.records(place.link.clock_us):
            assert value is not None
            state = LimitState.model_validate_json(value)
            assert json.loads(key) == ["organisation", state.organisation_id, state.limit_id]
            found[str(state.organisation_id)] = state.state, state.used
        pending.clear()
        return found

    def counted_upto(self) -> int:
        """Return up to which event of the teams heartbeats of organisations say is counted."""
        place = self._of_organisations.place()
        assert place is not None
        (one,) = LimitHeartbeat.model_validate_json(place.heartbeat()[1]).counted
        return one.events_position


def reading_of(pending: Pending) -> Reading:
    """Return what reads a journal from its beginning."""
    return Reading("journal", 0, chain=ChainReader(), start=0, pending=pending)


def follow(reading: Reading, partition: Partition) -> None:
    """Read what was not read yet."""
    for offset, at_us, header, value in partition.journal[reading.next_offset :]:
        reading.take(JournalEntry(offset, at_us, header.pack(), value))  # type: ignore[arg-type]


def limit(organisation_id: str) -> dict[str, Any]:
    """Return a hard limit of 4 runs a day of an organisation."""
    data: dict[str, Any] = {"organisation_id": organisation_id, "limit_id": f"of-{organisation_id}"}
    data |= {"version": 1, "subject": "organisation", "measure": "runs", "window": "day"}
    data |= {"amount": 4, "enforcement": "hard", "alert_levels_permille": [500]}
    return envelope("limit.set", organisation_id, NOW, data)


def registered() -> list[Entry]:
    """Return the catalog: two teams, one of them in an organisation below that of the other."""
    events = [
        ("organisation", {"organisation_id": "o-1"}),
        ("organisation", {"organisation_id": "o-2", "parent_id": "o-1"}),
        ("team", {"team_id": "t-1", "organisation_id": "o-1", "zone": "UTC"}),
        ("team", {"team_id": "t-2", "organisation_id": "o-2", "zone": "UTC"}),
    ]
    return entries(
        *(
            envelope(f"{kind}.registered", f"{i}", NOW, {"name": "n", **data})
            for i, (kind, data) in enumerate(events)
        )
    )


def test_a_limit_of_an_organisation() -> None:
    """It is reached by all teams below it together, and a void of one of their runs lifts it."""
    stages = Stages()
    stages.teams.take(catalog=registered())
    limits = entries(limit("o-1"), limit("o-2"))
    stages.organisations.take(catalog=registered(), control=limits)
    runs = [run(f"e-{i}", NOW, team_id=f"t-{1 + i % 2}") for i in range(4)]
    stages.teams.take(*runs[:3], at_us=NOW + MINUTE)
    assert stages.told() == [("reached", "of-o-1", 500)]
    assert stages.states() == {"o-1": ("admitting", 3), "o-2": ("admitting", 1)}
    assert stages.counted_upto() == 3
    stages.teams.take(runs[3], at_us=NOW + MINUTE)
    assert stages.told() == [("reached", "of-o-2", 500), ("blocked", "of-o-1", 4)]
    assert stages.states() == {"o-1": ("blocked", 4), "o-2": ("admitting", 2)}
    stages.teams.take(control=entries(void(runs[0])))
    assert stages.told() == [("reset", "of-o-1", 3)]
    assert stages.states() == {"o-1": ("admitting", 3)}
    assert stages.counted_upto() == 4
