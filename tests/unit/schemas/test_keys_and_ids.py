"""The keys of records and the ids of threshold events."""

import json
from datetime import UTC, datetime
from itertools import combinations
from uuid import UUID

import pytest
from pydantic import ValidationError

from meterstream.schemas.catalog import (
    AgentRegistered,
    AgentRegisteredData,
    CatalogEvent,
    MembershipChanged,
    MembershipChangedData,
    PlanPublished,
    PlanPublishedData,
    RateCardPublished,
    RateCardPublishedData,
    TeamRegistered,
    TeamRegisteredData,
    catalog_key,
)
from meterstream.schemas.control import (
    ImportClosed,
    ImportClosedData,
    LimitRemoved,
    LimitRemovedData,
    LimitSet,
    LimitSetData,
    control_key,
)
from meterstream.schemas.thresholds import (
    LIMIT_BLOCKED,
    THRESHOLD_REACHED,
    AsOf,
    LimitHeartbeat,
    LimitState,
    heartbeat_key,
    state_key,
    threshold_id,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def team(name: str) -> TeamRegistered:
    """Return a team's registration."""
    data = TeamRegisteredData(team_id=name, organisation_id="o", name="n", zone="UTC")
    return TeamRegistered(id="1", source="s", time=NOW, data=data)


def membership(user: str, **place: str) -> MembershipChanged:
    """Return a membership in a team or organisation."""
    data = MembershipChangedData.model_validate(
        {"user_id": user, "role": "member", "valid_from": NOW, **place}
    )
    return MembershipChanged(id="1", source="s", time=NOW, data=data)


def test_catalog_keys_are_readable() -> None:
    """A key names the kind and the id, for cards and plans the version too."""
    card = RateCardPublishedData(name="default", version=3, effective_from=NOW, prices=())
    plan = PlanPublishedData(
        plan_id="pro", version=2, name="Pro", tier="team", allowance_credits_micro=0
    )
    agent = AgentRegisteredData(
        agent_id="a-1", name="A", agent_type="chat", created_by="u", created_at=NOW
    )
    assert catalog_key(team("t-1")) == "team/t-1"
    published = RateCardPublished(id="1", source="s", time=NOW, data=card)
    assert catalog_key(published) == "rate-card/default/3"
    assert catalog_key(PlanPublished(id="1", source="s", time=NOW, data=plan)) == "plan/pro/2"
    assert catalog_key(AgentRegistered(id="1", source="s", time=NOW, data=agent)) == "agent/a-1"
    assert (
        catalog_key(membership("u", team_id="t")) == "membership/u/team/t/2026-01-01T00%3A00%3A00Z"
    )


def test_different_things_have_different_keys() -> None:
    """No names, however odd, make two things share a key."""
    events: list[CatalogEvent] = [
        team("a/b"),
        team("a%2Fb"),
        team("a"),
        membership("u/team/t", team_id="t"),
        membership("u", team_id="team/t"),
        membership("u", team_id="t/t"),
        membership("u", organisation_id="t"),
    ]
    keys = [catalog_key(event) for event in events]
    assert all(one != other for one, other in combinations(keys, 2))


def limit(**fields: str) -> LimitSet:
    """Return a limit of a team or organisation."""
    data = LimitSetData.model_validate(
        {
            "limit_id": "l",
            "version": 1,
            "measure": "credits",
            "window": "month",
            "amount": 5,
            "subject": "organisation" if "organisation_id" in fields else "team",
            **fields,
        }
    )
    return LimitSet(id="1", source="s", time=NOW, data=data)


def test_control_events_are_keyed_by_team() -> None:
    """A control event goes where its team's usage goes, an organisation's to the organisation."""
    assert control_key(limit(team_id="t")) == "t"
    assert control_key(limit(organisation_id="o")) == "o"
    removed = LimitRemovedData(organisation_id="o", limit_id="l", version=2)
    assert control_key(LimitRemoved(id="1", source="s", time=NOW, data=removed)) == "o"
    closed = ImportClosedData(team_id="t", import_id="i")
    assert control_key(ImportClosed(id="1", source="s", time=NOW, data=closed)) == "t"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"team_id": "t", "organisation_id": "o"},
        {"team_id": "t", "subject_id": "u"},
        {"team_id": "t", "subject": "user"},
        {"team_id": "t", "subject": "organisation"},
        {"organisation_id": "o", "subject": "team"},
        {"team_id": "t", "window": "balance", "measure": "runs"},
        {"team_id": "t", "subject": "user", "subject_id": "u", "window": "balance"},
        {"team_id": "t", "alert_levels_permille": (500, 500)},
        {"team_id": "t", "alert_levels_permille": (800, 500)},
    ],
)
def test_a_limit_that_contradicts_itself_is_refused(fields: dict[str, object]) -> None:
    """A limit without one owner, with a stray subject or unsorted levels is no limit."""
    sound = {
        "limit_id": "l",
        "version": 1,
        "subject": "team",
        "measure": "credits",
        "window": "month",
        "amount": 5,
    }
    LimitSetData.model_validate({**sound, "team_id": "t"})
    with pytest.raises(ValidationError):
        LimitSetData.model_validate({**sound, **fields})


def test_threshold_ids_follow_from_what_they_tell() -> None:
    """The same crossing has the same id, and any difference makes another one."""
    parts = ("t", "l", 1, "2026-01-01T00:00:00Z", 800)
    first = threshold_id(THRESHOLD_REACHED, *parts)
    assert first == threshold_id(THRESHOLD_REACHED, *parts) == "5fa560b88bcab4c438136ad32ed7d516"
    others = [
        threshold_id(LIMIT_BLOCKED, *parts),
        threshold_id(THRESHOLD_REACHED, "t", "l", 1, "2026-01-01T00:00:00Z", 900),
        threshold_id(THRESHOLD_REACHED, "t", "l", "1", "2026-01-01T00:00:00Z", 800),
        threshold_id(THRESHOLD_REACHED, "tl", "", 1, "2026-01-01T00:00:00Z", 800),
    ]
    assert len({first, *others}) == 5


def test_states_of_limits_have_keys_of_their_own() -> None:
    """A team's limit, an organisation's of the same name and a heartbeat do not share a key."""
    as_of = AsOf(
        events_topic_id=UUID(int=1), generation=1, partition=0, journal_offset=1, events_position=1
    )

    def key(**owner: str) -> str:
        state = {
            "limit_id": "l",
            "limit_version": 1,
            "subject": "organisation" if "organisation_id" in owner else "team",
            "measure": "runs",
            "window": "day",
            "window_start": NOW,
            "amount": 1,
            "as_of": as_of,
            "enforcement": "hard",
            "state": "admitting",
            "used": 0,
            "reached_permille": 0,
        }
        return state_key(LimitState.model_validate({**state, **owner}))

    assert key(team_id="x") == '["team","x","l"]'
    assert key(organisation_id="x") == '["organisation","x","l"]'
    assert heartbeat_key(7) == '["heartbeat",7]'


def test_what_removes_a_limit_names_its_state() -> None:
    """The state, the event that set a limit and the one that removes it lead to one key."""
    removed = LimitRemovedData(team_id="tëam", limit_id="l", version=2)
    assert state_key(removed) == '["team","t\\u00ebam","l"]'
    assert state_key(limit(team_id="tëam").data) == state_key(removed)


def test_readers_ignore_fields_that_were_added() -> None:
    """A record of a newer version, with fields that this one does not know, is read."""
    as_of = {
        "events_topic_id": str(UUID(int=1)),
        "generation": 1,
        "partition": 0,
        "journal_offset": 1,
        "events_position": 1,
        "added": 1,
    }
    told = {"partition": 0, "as_of": as_of, "clock": "2026-01-01T00:00:00Z", "added": {}}
    assert LimitHeartbeat.model_validate_json(json.dumps(told)).as_of.generation == 1
