"""Limits of organisations apply to the teams below them, as the catalog tells who is below whom."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.support.limit_states import (
    PARTITIONS,
    Entry,
    FedGate,
    Record,
    as_of,
    heartbeats,
    limit,
    loaded_gate,
    organisation_entry,
    organisation_heartbeats,
    organisation_limit,
    removed,
    team_entry,
)

from meterstream.producers import Amounts, Decision, UnreadableState
from meterstream.schemas.partitions import partition_of

ONE = Amounts(runs=1)
BELOW = [team_entry("team-1", "acme"), team_entry("team-2", "acme")]
FULL = organisation_limit(used=10)
OTHER = UUID(int=9)


def _gate(*records: Any, **settings: Any) -> FedGate:
    return loaded_gate(*records, organisation_heartbeats(1), **settings)


def _named(decision: Decision) -> list[tuple[str | None, str]]:
    return [(one.organisation_id, one.limit_id) for one in decision.limits]


def _told(decision: Decision) -> tuple[int, int]:
    (told,) = decision.limits
    return told.used, told.held


def test_a_limit_applies_to_all_teams_of_its_organisation_and_no_other() -> None:
    """A full organisation refuses its teams' runs, and the decision names it."""
    gate = _gate(FULL, BELOW, team_entry("team-3", "other"))
    for team in ("team-1", "team-2"):
        decision = gate.check(team)
        assert decision.rule == "blocked"
        (refused,) = decision.refused_by
        assert (refused.organisation_id, refused.subject, refused.subject_id) == (
            "acme",
            "organisation",
            None,
        )
        assert gate.reserve(ONE, team).decision.rule == "blocked"
    assert gate.check("team-3")
    assert gate.check("nobody")


def test_all_organisations_upwards_are_looked_at() -> None:
    """A team's own limits come first, then its organisation's, then what that is part of."""
    gate = _gate(
        BELOW,
        organisation_entry("acme", "group"),
        organisation_entry("group", "world"),
        limit(limit_id="own"),
        organisation_limit("world", "w", used=10),
        organisation_limit("acme", "b"),
        organisation_limit("acme", "a", enforcement="soft", used=99),
        organisation_limit("elsewhere", "e", used=10),
    )
    decision = gate.check("team-1")
    assert _named(decision) == [(None, "own"), ("acme", "a"), ("acme", "b"), ("world", "w")]
    assert [one.organisation_id for one in decision.refused_by] == ["world"]
    gate.take(organisation_entry("group"))
    assert gate.check("team-1")


def test_changes_of_the_catalog_and_of_limits_apply_at_once() -> None:
    """A team that moves, and a limit that comes, turns hard or goes, are seen by the next check."""
    gate = _gate(BELOW)
    assert gate.check("team-1").limits == ()
    gate.take(organisation_limit(used=10, enforcement="soft", offset=2))
    assert gate.check("team-1")
    gate.take(organisation_limit(used=10, offset=3))
    assert not gate.check("team-1")
    gate.take(team_entry("team-1", "other"))
    assert gate.check("team-1")
    assert not gate.check("team-2")
    gate.take(removed(FULL))
    assert gate.check("team-2").limits == ()
    assert gate.metric("states") == 0


def test_circles_and_unknown_parents_come_to_an_end() -> None:
    """An organisation that nobody registered has limits, and one that is above itself ends."""
    gate = _gate(
        BELOW,
        organisation_entry("acme", "unknown"),
        organisation_limit("unknown", "u"),
        team_entry("team-3", "a"),
        organisation_entry("a", "b"),
        organisation_entry("b", "c"),
        organisation_entry("c", "b"),
        organisation_limit("c", used=10),
    )
    assert _named(gate.check("team-1")) == [("unknown", "u")]
    assert _named(gate.check("team-3")) == [("c", "cap")]


def test_names_are_taken_as_they_are() -> None:
    """Slashes and other letters in names, which keys of the catalog encode, change nothing."""
    name = "a/b %2F ä"
    entry = team_entry(name, name)
    assert b"%252F" in entry.key
    gate = _gate(entry, organisation_limit(name, used=10))
    assert not gate.check(name)


def test_of_the_catalog_only_teams_and_organisations_matter() -> None:
    """Other entries, and those without a value, change nothing: the meter keeps what it knew."""
    gate = _gate(FULL, BELOW)
    gate.take(
        Entry(b"membership/u/team/team-1/2026", b"x"), Entry(BELOW[0].key, None), Entry(b"", b"")
    )
    assert not gate.check("team-1")


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"team/team-1", b"{"),
        Entry(b"team/team-1", b"\xff"),
        Entry(b"team/team-1", b"[]"),
        Entry(b"team/team-1", b'{"type": "x", "data": {}}'),
        Entry(b"team/team-1", b'{"type": "meterstream.team.registered.v1", "data": {}}'),
        Entry(b"organisation/acme", team_entry("team-1", "other").value),
        Entry(b"team/team-1", (team_entry("team-1", "x").value or b"").replace(b'"x"', b"7")),
    ],
)
def test_an_entry_that_breaks_the_contract_is_told_and_changes_nothing(entry: Entry) -> None:
    """The team stays where it was known to be, as it does for the meter."""
    gate = _gate(FULL, BELOW)
    with pytest.raises(UnreadableState, match="catalog breaks the contract") as caught:
        gate.take(entry)
    assert "team-1" not in str(caught.value)
    assert not gate.check("team-1")


@pytest.mark.parametrize(
    "record",
    [
        FULL._replace(key=b'["team","acme","cap"]'),
        limit()._replace(key=FULL.key),
        FULL._replace(value=(FULL.value or b"").replace(b'"team_id":null', b'"team_id":"t"')),
        FULL._replace(value=(FULL.value or b"").replace(b'"acme"', b"null")),
        FULL._replace(value=(FULL.value or b"").replace(b'"subject_id":null', b'"subject_id":"x"')),
        organisation_limit("acme", used=0, offset=9, partitions=PARTITIONS)._replace(
            partition=(FULL.partition + 1) % PARTITIONS
        ),
        organisation_heartbeats(5, {0: 1})[0]._replace(value=b'{"owners": "organisations"}'),
        Record(0, b'["heartbeat",0]', b'{"owners": 1}'),
    ],
)
def test_a_state_of_an_organisation_that_breaks_the_contract_changes_nothing(
    record: Record,
) -> None:
    """Owner, key, subject and place belong together."""
    gate = _gate(FULL, BELOW)
    with pytest.raises(UnreadableState):
        gate.take(record)
    assert not gate.check("team-1")


def test_heartbeats_of_owners_to_come_are_passed_over() -> None:
    """A later version may tell limits of others."""
    gate = _gate(FULL, BELOW)
    (beat, *_) = heartbeats(9)
    gate.take(beat._replace(value=(beat.value or b"").replace(b'"teams"', b'"planets"')))
    assert gate.metric("ignored_total", reason="other_owner") == 1


def test_each_kind_of_owner_has_its_own_order() -> None:
    """Generations and topics of one meter say nothing of the states of the other one."""
    gate = _gate(BELOW, limit(used=10, offset=5, generation=3))
    gate.take(organisation_limit(used=10, offset=1), organisation_limit(used=0, offset=0))
    assert len(gate.check("team-1").refused_by) == 2
    gate.take(organisation_limit(used=1, offset=2))
    assert [one.organisation_id for one in gate.check("team-1").refused_by] == [None]


def test_without_a_second_stage_nothing_is_stale() -> None:
    """A log without heartbeats of organisations leaves teams' knowledge as it is."""
    gate = loaded_gate(BELOW, gate_fail="fail_closed")
    assert gate.check("team-1").rule == "within_limits"
    assert gate.metric("age_seconds") < 30


@pytest.mark.parametrize("fail", ["fail_open", "fail_closed"])
def test_a_second_stage_that_died_makes_its_own_teams_stale(fail: str) -> None:
    """Where an organisation above has a hard limit the setting decides; elsewhere nothing changes.

    What the limit was known to refuse, it refuses while its window lasts.
    """
    over = datetime.now(UTC) - timedelta(hours=1)
    gate = loaded_gate(
        BELOW,
        organisation_limit(),
        team_entry("full", "full"),
        organisation_limit("full", used=10),
        team_entry("over", "over"),
        organisation_limit("over", used=10, window_end=over),
        team_entry("soft", "soft"),
        organisation_limit("soft", enforcement="soft"),
        organisation_heartbeats(1, age_s=60),
        limit("team-2", used=10),
        gate_fail=fail,
    )
    found = {team: gate.check(team).rule for team in ("team-1", "full", "over", "team-2", "free")}
    opened = {"team-1": fail, "full": "blocked", "over": fail, "team-2": "blocked"}
    closed = dict.fromkeys(opened, fail)
    assert found == (opened if fail == "fail_open" else closed) | {"free": "within_limits"}
    assert gate.check("soft").rule == "within_limits"
    age_s = gate.check("team-1").age_s
    assert age_s is not None
    assert 59 < age_s < 600
    assert 59 < gate.metric("age_seconds") < 600
    gate.take(organisation_heartbeats(2))
    assert gate.check("team-1").rule == "within_limits"


def test_a_teams_own_share_binds_while_only_its_organisation_is_stale() -> None:
    """With fail_open limits of which enough is known go on to be shared out."""
    gate = loaded_gate(
        BELOW,
        organisation_limit(amount=4),
        organisation_heartbeats(1, age_s=60),
        limit(amount=8),
        gate_processes=4,
    )
    taken = [gate.reserve(ONE, "team-1").decision.rule for _ in range(4)]
    assert taken == ["fail_open", "fail_open", "share", "share"]
    taken = [gate.reserve(ONE, "team-2").decision.rule for _ in range(3)]
    assert taken == ["fail_open", "fail_open", "held"]


@pytest.mark.parametrize("fail", ["fail_open", "fail_closed"])
def test_limits_of_organisations_without_a_catalog_are_unknown(fail: str) -> None:
    """Until the catalog was read nobody can tell whose they are; a team's own limits still hold."""
    gate = FedGate(gate_fail=fail)
    gate.take(limit("team-2", used=10), heartbeats(1), organisation_heartbeats(1), BELOW)
    for partition in range(PARTITIONS):
        gate._known.reached_end(partition)
    assert gate.check("team-1").rule == "within_limits"
    assert not gate.ready()
    gate.take(organisation_limit("far", enforcement="soft", used=99))
    assert gate.check("team-1").rule == "within_limits"
    gate.take(organisation_limit("far", offset=2))
    assert gate.check("team-1").rule == fail
    assert gate.check("team-1").age_s is None
    assert gate.check("team-2").rule == ("blocked" if fail == "fail_open" else fail)
    assert gate.metric("age_seconds") == math.inf
    gate.reach_end()
    assert gate.ready()
    assert gate.check("team-1").rule == "within_limits"


def test_a_catalog_that_is_read_again_moves_nobody_meanwhile() -> None:
    """What was known holds to the log's end; a team that it does not tell stays where it was."""
    gate = _gate(FULL, BELOW)
    gate.begin_anew()
    gate.take(team_entry("team-1", "other"), organisation_entry("other", "world"))
    assert not gate.check("team-1")
    gate.take(team_entry("team-1", "acme"), heartbeats(2), organisation_heartbeats(2), FULL)
    assert not gate.check("team-1")
    gate.take(team_entry("team-3", "acme"))
    assert gate.check("team-3")
    gate.reach_end()
    assert not any(gate.check(team) for team in ("team-1", "team-2", "team-3"))
    gate.begin_anew()
    gate.take(team_entry("team-3", "other"))
    gate.reach_end()
    assert gate.check("team-3")


def test_what_all_teams_hold_counts_against_their_organisation() -> None:
    """Ten runs of any teams fill a cap of ten; an eleventh is held back."""
    gate = _gate(organisation_limit(), BELOW)
    taken = [gate.reserve(ONE, f"team-{1 + number % 2}") for number in range(10)]
    assert all(taken)
    assert gate.reserve(ONE, "team-1").decision.rule == "held"
    assert gate.check("team-2").refused_by[0].organisation_id == "acme"
    taken[0].release()
    assert gate.reserve(ONE, "team-2")


def _two_partitions() -> tuple[str, str, int, int]:
    first = "team-1"
    other = next(
        f"team-{number}"
        for number in range(99)
        if partition_of(f"team-{number}", PARTITIONS) != partition_of(first, PARTITIONS)
    )
    return first, other, partition_of(first, PARTITIONS), partition_of(other, PARTITIONS)


def test_what_was_settled_waits_until_its_organisation_counts_it() -> None:
    """Neither the team's own heartbeat nor the organisation's state ends it, nor another partition.

    Only `counted` of the organisation's heartbeat for the partition of the run's own event does.
    """
    first, other, here, there = _two_partitions()
    gate = _gate(
        organisation_limit(), team_entry(first, "acme"), team_entry(other, "acme"), limit(first)
    )
    gate.reserve(ONE, first).settle(Amounts(runs=3), 41)
    gate.reserve(ONE, other).settle(Amounts(runs=2), 41)
    gate.take(heartbeats(5, position=100))
    own, above = gate.check(first).limits
    assert (own.held, above.held) == (0, 5)
    gate.take(organisation_limit(used=3, offset=5, position=1_000), organisation_heartbeats(5))
    assert _told(gate.check(other)) == (3, 5)
    gate.take(organisation_heartbeats(6, {there: 41, here: 41}))
    assert _told(gate.check(other)) == (3, 5)
    gate.take(organisation_heartbeats(7, {here: 42}))
    assert _told(gate.check(other)) == (3, 2)
    gate.take(organisation_heartbeats(8, {here: 42, there: 50}))
    assert _told(gate.check(other)) == (3, 0)
    gate.reserve(ONE, other).settle(ONE, 49)
    assert _told(gate.check(other)) == (3, 0)


def test_positions_of_another_events_topic_relieve_nothing() -> None:
    """What an organisation counted of a topic that is no longer, or not yet, followed says naught.

    When the topic of events is made again, what waits ends by time.
    """
    here = partition_of("team-1", PARTITIONS)
    gate = _gate(organisation_limit(), BELOW)
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    gate.take(organisation_heartbeats(2, {here: 100}, topic_id=OTHER))
    assert _told(gate.check("team-1")) == (0, 1)
    gate.take(heartbeats(1, topic_id=OTHER, age_s=-1), organisation_heartbeats(3, {here: 100}))
    assert _told(gate.check("team-1")) == (0, 1)
    assert gate.metric("reservations") == 1
    gate.reserve(ONE, "team-1").settle(ONE, 5)
    gate.take(organisation_heartbeats(4, {here: 6}, topic_id=OTHER))
    assert _told(gate.check("team-1")) == (0, 1)


def test_a_topic_of_usage_that_was_made_again_changes_no_offsets_of_runs() -> None:
    """What waits for events of teams goes on to wait, and a new second stage tells it counted."""
    organisation = "acme"
    team = next(
        name
        for name in (f"team-{number}" for number in range(99))
        if partition_of(name, PARTITIONS) == partition_of(organisation, PARTITIONS)
    )
    here = partition_of(team, PARTITIONS)
    gate = _gate(organisation_limit(organisation), team_entry(team, organisation))
    gate.reserve(ONE, team).settle(ONE, 41)
    told = {"owners": "organisations", "topic_id": OTHER, "age_s": -1}
    gate.take(organisation_limit(organisation, topic_id=OTHER), heartbeats(1, counted=(), **told))
    assert _told(gate.check(team)) == (0, 1)
    assert gate.metric("reservations") == 0
    gate.take(heartbeats(2, counted=(as_of(here, 42),), **told))
    assert _told(gate.check(team)) == (0, 0)


def test_an_event_that_tells_no_use_is_not_held_for_ever() -> None:
    """A run that was counted before, or refused, ends once the organisation's clock is past it."""
    here = partition_of("team-1", PARTITIONS)
    gate = _gate(organisation_limit(), BELOW, gate_clock_margin_s=300)
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    gate.take(heartbeats(9, position=42), organisation_heartbeats(3, {here: 41}))
    assert _told(gate.check("team-1")) == (0, 1)
    gate.take(organisation_heartbeats(4, {here: 41}))
    gate.reserve(ONE, "team-1").settle(ONE, 42)
    assert _told(gate.check("team-1")) == (0, 2)
    gate.take(organisation_heartbeats(5, {here: 41}, age_s=-3600))
    assert _told(gate.check("team-1")) == (0, 1)


def test_more_processes_may_share_an_organisation_than_a_team() -> None:
    """Of an organisation each of eight processes takes an eighth, of a team each of two a half."""
    gate = _gate(
        organisation_limit(amount=160),
        BELOW,
        limit(amount=40),
        gate_processes=2,
        gate_organisation_processes=8,
    )
    assert sum(1 for _ in range(100) if gate.reserve(ONE, "team-1")) == 20
    assert gate.reserve(ONE, "team-2").decision.rule == "share"
    alone = _gate(limit(amount=40), organisation_limit(amount=160), BELOW, gate_processes=2)
    assert sum(1 for _ in range(100) if alone.reserve(ONE, "team-1")) == 20
    assert sum(1 for _ in range(100) if alone.reserve(ONE, "team-2")) == 60


def test_a_burst_of_an_organisation_is_remembered() -> None:
    """When much was counted of late, the other processes may have their parts of what was left."""
    gate = _gate(organisation_limit(amount=1_000), BELOW, gate_organisation_processes=4)
    gate.take(organisation_limit(amount=1_000, used=250, offset=2))
    assert sum(1 for _ in range(900) if gate.reserve(ONE, "team-2")) == 1
