"""What a record tells of teams, for their organisations."""

import json
from typing import Any

import pytest
from tests.support.core_runner import read_table
from tests.support.craft import (
    MINUTE,
    NOW,
    Json,
    Partition,
    adjustment,
    entries,
    envelope,
    run,
    void,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.streams.core.step import Step

QUARTER = 15 * MINUTE
RUN = run("e-1", NOW, credits_micro=700, input_tokens=30, operation="api_call")


def team(organisation_id: str = "child") -> Json:
    """Return the registration of the team that runs are made by."""
    data = {"team_id": "team", "organisation_id": organisation_id, "name": "n", "zone": "UTC"}
    return envelope("team.registered", "t-1", NOW, data)


def organisation(organisation_id: str, parent_id: str | None = None) -> Json:
    """Return the registration of an organisation."""
    data: Json = {"organisation_id": organisation_id, "name": "n"}
    if parent_id is not None:
        data["parent_id"] = parent_id
    return envelope("organisation.registered", f"o-{organisation_id}", NOW, data)


def registered(*events: Json) -> Partition:
    """Return a partition whose catalog has these."""
    partition = Partition()
    partition.take(catalog=entries(*events))
    return partition


def told(step: Step) -> list[dict[str, Any]]:
    """Return the rows of a step."""
    sections = unpack_sections(step.value)
    return read_table(sections[Section.TEAM_USAGE]) if Section.TEAM_USAGE in sections else []


def test_a_team_without_an_organisation_is_not_told() -> None:
    """Nobody is there to be told."""
    assert told(registered(organisation("child")).take(RUN)) == []


def test_the_chain_of_organisations_is_told_upwards() -> None:
    """Each gets its own event of it, with what the team used."""
    partition = registered(organisation("top"), organisation("child", "top"), team())
    assert told(partition.take(RUN)) == [
        {
            "team_id": "team",
            "organisations": '["child", "top"]',
            "corrects": 0,
            "quarter_start": NOW // QUARTER * QUARTER,
            "credits_micro": 700,
            "tokens": 30,
            "runs": 1,
            "api_calls": 1,
            "sessions": 0,
        }
    ]
    partition.take(catalog=entries(team("top"), first=3))
    (row,) = told(partition.take(run("e-2", NOW)))
    assert json.loads(row["organisations"]) == ["top"]


@pytest.mark.parametrize("with_limit", [False, True])
def test_corrections_come_in_rows_of_their_own_and_first(with_limit: bool) -> None:
    """What they take back is not mixed with what is used in the same record."""
    partition = registered(team())
    partition.take(RUN)
    if with_limit:
        data = {
            "team_id": "team", "limit_id": "l", "version": 1, "subject": "team",
            "measure": "runs", "window": "day", "amount": 5,
        }  # fmt: skip
        partition.take(control=entries(envelope("limit.set", "l-1", NOW, data)))
    first = partition.state.control_position
    voided = entries(void(RUN, first_token_us=None), first=first)
    step = partition.take(run("e-2", NOW, credits_micro=5), control=voided)
    rows = [(row["corrects"], row["credits_micro"], row["runs"]) for row in told(step)]
    assert rows == [(1, -700, -1), (0, 5, 1)]


def test_an_adjustment_of_nothing_that_limits_count_is_not_told() -> None:
    """A row without amounts would be an event that says nothing."""
    partition = registered(team())
    partition.take(RUN)
    step = partition.take(control=entries(adjustment(RUN, response_bytes=-1)))
    assert told(step) == []
