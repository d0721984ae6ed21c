"""The events of `org-usage` that the publisher writes fast are those of the contract's model."""

import json
from collections import defaultdict
from typing import Any
from unittest.mock import patch
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tests.support.journal import arrow
from tests.support.limits import DAY_1_US, LimitJournal

from meterstream.schemas.journal import Link
from meterstream.schemas.organisations import (
    MAX_USE,
    MEASURES,
    QUARTER_US,
    OrganisationUsed,
    OrganisationUsedData,
    UseData,
    organisation_usage_id,
)
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.rows import TEAM_USAGE
from meterstream.schemas.thresholds import AsOf
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import ORG_USAGE
from meterstream.streams.publisher import team_usage
from meterstream.streams.publisher.place import Place
from meterstream.streams.publisher.team_usage import TeamUsage

SOURCE = "/t.events"
PART = 3
"""So few quarters an event, for this test."""
NAMES = st.sampled_from(["a", "b", "c", "é \U0001f600", '"\\'])


def rows_of(corrects: int, least: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return rows of TEAM_USAGE: only corrections take something back."""
    start_us = st.integers(0, 8).map(lambda number: DAY_1_US + number * QUARTER_US)
    amounts = dict.fromkeys(MEASURES, st.just(0) | st.integers(least, MAX_USE))
    row = {"team_id": NAMES, "corrects": st.just(corrects), "quarter_start": start_us}
    return st.fixed_dictionaries(row | amounts)


rows = rows_of(0, 0) | rows_of(1, -MAX_USE)
chains = st.dictionaries(
    NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True).map(tuple), max_size=5
)


def expected_of(
    given_rows: list[dict[str, Any]], chain_of: dict[str, tuple[str, ...]], place: Place, at_us: int
) -> dict[tuple[str, str], OrganisationUsed]:
    """Return the events by organisation and id, row by row."""
    uses: dict[tuple[str, bool], list[UseData]] = defaultdict(list)
    for row in given_rows:
        amounts = {name: row[name] for name in MEASURES}
        use = UseData(quarter_start=from_us(row["quarter_start"]), **amounts)
        uses[row["team_id"], bool(row["corrects"])].append(use)
    as_of = AsOf.model_validate_json(bytes(place.as_of()))
    found = {}
    for (team_id, corrects), all_ in uses.items():
        for organisation_id in chain_of[team_id]:
            for part in range((len(all_) + PART - 1) // PART):
                id_ = organisation_usage_id(
                    as_of.events_topic_id,
                    as_of.generation,
                    as_of.partition,
                    as_of.journal_offset,
                    team_id,
                    corrects=corrects,
                    part=part,
                )
                data = OrganisationUsedData(
                    organisation_id=organisation_id,
                    team_id=team_id,
                    as_of=as_of,
                    corrects=corrects,
                    uses=tuple(all_[part * PART : (part + 1) * PART]),
                )
                found[organisation_id, id_] = OrganisationUsed(
                    id=id_, source=SOURCE, time=from_us(at_us), data=data
                )
    return found


@given(given_rows=st.lists(rows, max_size=12), chain_of=chains, partitions=st.integers(1, 7))
def test_usage(
    given_rows: list[dict[str, Any]], chain_of: dict[str, tuple[str, ...]], partitions: int
) -> None:
    """Each organisation above a team gets all of its rows, corrections first, in its partition."""
    given_rows = [row for row in given_rows if row["team_id"] in chain_of]
    for row in given_rows:
        row["organisations"] = json.dumps(chain_of[row["team_id"]])
    record = LimitJournal().step(clock_us=DAY_1_US + 5_000_000)
    place = Place(UUID(int=9), 2, Link(2, record.offset, 1, 40, DAY_1_US))
    with patch.object(team_usage, "MAX_USES", PART):
        told = TeamUsage(SOURCE, partitions).records(
            memoryview(arrow(TEAM_USAGE, given_rows)), record, place
        )
    found = {}
    more: dict[int, list[bool]] = {}
    for one in told:
        event = parse_event(one.value, ORG_USAGE)
        assert isinstance(event, OrganisationUsed)
        owner = event.data.organisation_id
        assert one.key.decode() == owner
        assert one.partition == partition_of(owner, partitions)
        more.setdefault(one.partition, []).append(event.data.more)
        data = event.data.model_copy(update={"more": False})
        found[owner, event.id] = event.model_copy(update={"data": data})
    for said in more.values():
        assert said == [True] * (len(said) - 1) + [False]
    assert len(found) == len(told), "an id is given once"
    assert found == expected_of(given_rows, chain_of, place, record.timestamp_us)
    corrects = [event.data.corrects for event in found.values()]
    assert corrects == sorted(corrects, reverse=True)
