"""What both meters and publishers tell, as a gate understands it: from runs of teams to checks."""

import time
from types import SimpleNamespace

import pytest
from tests.support.craft import MINUTE, NOW, entries, run
from tests.support.limit_states import Entry, FedGate
from tests.unit.streams.publisher import test_both_stages_with_the_core as both

from meterstream.producers import Amounts, Decision
from meterstream.producers.gate import gate as gates
from meterstream.schemas.catalog import CatalogEvent, catalog_key
from meterstream.schemas.registry import parse_event
from meterstream.schemas.topics import CATALOG

ONE = Amounts(runs=1)
CLOCK = NOW + MINUTE


def _entry(value: bytes) -> Entry:
    event: CatalogEvent = parse_event(value, CATALOG)  # type: ignore[assignment]
    return Entry(catalog_key(event).encode(), value)


class _Pipeline:
    """One partition of each stage, and a gate that reads what is told of both."""

    def __init__(self) -> None:
        self.stages = both.Stages()
        self.gate = FedGate(gate_fail="fail_closed")
        self.gate._known.set_partitions(1)
        self.gate.take(_entry(entry.value or b"") for entry in both.registered())
        self.gate.reach_end()

    def tell(self, *, organisations: bool = True) -> None:
        """Tell what was counted of teams, and what of it organisations have counted."""
        if organisations:
            self.stages.told()
        else:
            both.follow(self.stages._of_teams, self.stages.teams)
        for reading in (self.stages._of_teams, self.stages._of_organisations):
            place = reading.place()
            if place is None:
                continue
            if reading is self.stages._of_organisations:
                for key, value in reading.pending.states.records(place.link.clock_us):
                    self.gate._known.take(0, key, value)
                reading.pending.clear()
            self.gate._known.take(0, *place.heartbeat())

    def stands(self, team: str) -> list[tuple[str | None, int, int]]:
        """Return organisation, use and what is held of each limit above a team."""
        return [(one.organisation_id, one.used, one.held) for one in self.check(team).limits]

    def check(self, team: str) -> Decision:
        return self.gate.check(team)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> _Pipeline:
    """Return a pipeline whose gate lives at the time of its first events."""
    clock = SimpleNamespace(time_ns=lambda: NOW * 1_000, monotonic=time.monotonic)
    monkeypatch.setattr(gates, "time", clock)
    return _Pipeline()


def test_what_runs_used_is_held_until_both_stages_have_counted_it(pipeline: _Pipeline) -> None:
    """At no moment is a run missing from what a gate knows, and none stays held."""
    stages, gate = pipeline.stages, pipeline.gate
    stages.teams.take(catalog=both.registered(), at_us=NOW)
    limits = entries(both.limit("o-1"), both.limit("o-2"))
    stages.organisations.take(catalog=both.registered(), control=limits, at_us=NOW)
    pipeline.tell()
    assert pipeline.stands("t-2") == [("o-2", 0, 0), ("o-1", 0, 0)]
    for offset in range(3):
        team = f"t-{1 + offset % 2}"
        gate.reserve(ONE, team).settle(ONE, offset)
    assert pipeline.stands("t-2") == [("o-2", 0, 1), ("o-1", 0, 3)]
    runs = [run(f"e-{i}", NOW, team_id=f"t-{1 + i % 2}") for i in range(4)]
    stages.teams.take(*runs[:3], at_us=CLOCK)
    pipeline.tell(organisations=False)
    assert pipeline.stands("t-2") == [("o-2", 0, 1), ("o-1", 0, 3)]
    pipeline.tell()
    assert pipeline.stands("t-2") == [("o-2", 1, 0), ("o-1", 3, 0)]
    assert pipeline.check("t-1").rule == "within_limits"
    stages.teams.take(runs[3], at_us=CLOCK)
    pipeline.tell()
    assert [one.organisation_id for one in pipeline.check("t-2").refused_by] == ["o-1"]
    assert pipeline.check("t-1").rule == "blocked"
