"""What both stages' publishers gather for limits of organisations."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tests.support.limits import DAY_1_US, LimitJournal, crossing, limit_row, removed

from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.journal import ChainReader
from meterstream.schemas.organisations import MAX_USE, MAX_USES, MEASURES
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import (
    LIMIT_BLOCKED,
    AsOf,
    LimitHeartbeat,
    LimitState,
    threshold_id,
)
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.schemas.topics import ORG_USAGE, THRESHOLDS
from meterstream.streams.publisher import pending
from meterstream.streams.publisher.counted import Counted
from meterstream.streams.publisher.pending import Pending
from meterstream.streams.publisher.reading import Reading, SlotBroken
from meterstream.streams.publisher.team_usage import TeamUsage

TOPIC = UUID(int=7)
QUARTER_US = 900_000_000


def reading_of(pending: Pending) -> Reading:
    """Return what reads a journal from its beginning, before its first record."""
    return Reading("journal", 0, chain=ChainReader(), start=0, pending=pending)


def of_teams() -> Reading:
    """Return what the publisher of the first stage reads with."""
    return reading_of(Pending(0, "/t", 100, usage=TeamUsage("/events", 4)))


def of_organisations() -> Reading:
    """Return what that of the second stage reads with."""
    return reading_of(Pending(0, "/t", 100, counted=Counted()))


def take(reading: Reading, journal: LimitJournal) -> None:
    """Take the records that were not taken yet."""
    for entry in journal.log[reading.next_offset :]:
        reading.take(entry)  # type: ignore[arg-type]


def is_full(reading: Reading) -> bool:
    """Tell whether it takes no further record before what it has is published."""
    return reading.pending.is_full


def used(team_id: str = "team-1", *chain: str, **values: Any) -> dict[str, Any]:
    """Return a row of TEAM_USAGE: one run in the first quarter of the day."""
    organisations = json.dumps(chain or ("o-1",))
    row = {"team_id": team_id, "organisations": organisations, "quarter_start": DAY_1_US}
    return row | {"runs": 1} | values


def of_organisation(limit_id: str = "l-1", **values: Any) -> dict[str, Any]:
    """Return a row of LIMIT_STATES of organisation o-1, in whose column team_id its id stands."""
    return limit_row(limit_id, team_id="o-1", subject="organisation", **values)


def states(reading: Reading) -> dict[str, Any]:
    """Return what would be published of states now, by key."""
    place = reading.place()
    assert place is not None
    told = reading.pending.states.records(place.link.clock_us)
    return {key.decode(): value for key, value in told}


def heartbeat(reading: Reading) -> LimitHeartbeat:
    """Return what a heartbeat would tell now."""
    place = reading.place()
    assert place is not None
    return LimitHeartbeat.model_validate_json(place.heartbeat()[1])


def test_usage_of_teams_waits_with_the_others() -> None:
    """It is published in the usual interval, with what else the record decided."""
    journal, reading = LimitJournal(), of_teams()
    take(reading, journal)
    assert not reading.pending
    journal.step(used=[used()])
    take(reading, journal)
    assert reading.pending
    assert not reading.pending.is_urgent
    (told,) = reading.pending.usage
    event: Any = parse_event(told.value, ORG_USAGE)
    assert (event.source, event.data.team_id, event.data.organisation_id) == (
        "/events", "team-1", "o-1",
    )  # fmt: skip
    assert event.data.as_of.journal_offset == 1
    assert event.time == from_us(DAY_1_US)
    reading.pending.clear()
    assert not reading.pending


def test_a_transaction_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so much usage it is published at once, and no further record is taken before."""
    monkeypatch.setattr(pending, "MAX_USAGE", 3)
    journal, reading = LimitJournal(), of_teams()
    journal.step(used=[used("team-1", "o-1", "o-2")])
    take(reading, journal)
    assert not is_full(reading)
    journal.step(used=[used()])
    take(reading, journal)
    assert is_full(reading)
    assert reading.pending.is_urgent


def test_a_team_that_used_something_in_many_quarters() -> None:
    """Its usage comes in several events, none larger than the meter takes."""
    large = dict.fromkeys(MEASURES, -MAX_USE)
    rows = [
        used(
            "é" * 64,
            "\U0001f600" * 64,
            corrects=1,
            **large,
            quarter_start=DAY_1_US + number * QUARTER_US,
        )
        for number in range(MAX_USES + 1)
    ]
    journal, reading = LimitJournal(), of_teams()
    journal.step(used=rows)
    take(reading, journal)
    told: list[Any] = [parse_event(one.value, ORG_USAGE) for one in reading.pending.usage]
    assert [len(event.data.uses) for event in told] == [MAX_USES, 1]
    assert len({event.id for event in told}) == 2
    assert max(len(one.value) for one in reading.pending.usage) < MAX_EVENT_BYTES


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda journal: journal.step(used=[used(organisations="o-1")]), "offset 1 tells of teams"),
        (
            lambda journal: journal.step(used=[used(), used("team-1", "o-2")]),
            "two organisations at a time.* up to offset 0.* `meterstream meter --new-generation",
        ),
    ],
)
def test_usage_that_cannot_be_read(spoil: Callable[[LimitJournal], object], message: str) -> None:
    """The partition stops before it, and says what to do."""
    journal, reading = LimitJournal(), of_teams()
    spoil(journal)
    with pytest.raises(SlotBroken, match=message):
        take(reading, journal)
    assert not reading.pending


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda journal: journal.step(counted=[[str(TOPIC), 1, 0, 5]]), "COUNTED .* offset 1"),
        (
            lambda journal: journal.step(counted=[[str(TOPIC), 1, 0, 5, -1]]),
            "meter --organisations",
        ),
        (lambda journal: journal.step(used=[used()]), "what teams used, which is not passed on"),
    ],
)
def test_a_record_of_organisations_that_cannot_be_read(
    spoil: Callable[[LimitJournal], object], message: str
) -> None:
    """The partition stops before it, and says what to do."""
    journal, reading = LimitJournal(), of_organisations()
    spoil(journal)
    with pytest.raises(SlotBroken, match=message):
        take(reading, journal)
    assert not reading.pending
    assert not reading.pending.counted.all()


def test_states_of_organisations() -> None:
    """They stand under the organisation's key; only its own removals take them away."""
    journal, reading = LimitJournal(), of_organisations()
    journal.step([of_organisation(used=7), of_organisation("l-2", used=1)])
    take(reading, journal)
    first, second = states(reading).items()
    state = LimitState.model_validate_json(first[1])
    assert first[0] == '["organisation","o-1","l-1"]'
    assert (state.organisation_id, state.team_id, state.used) == ("o-1", None, 7)
    assert second[0] == '["organisation","o-1","l-2"]'
    journal.step(control=[removed(organisation_id="o-1"), removed("l-2", team_id="o-1")])
    take(reading, journal)
    assert [value is None for value in states(reading).values()] == [True, False]
    journal.step([of_organisation("l-2", removed=1)])
    take(reading, journal)
    assert set(states(reading).values()) == {None}


def test_the_stage_of_teams_removes_none_of_theirs() -> None:
    """An entry that removes an organisation's limit is not for its publisher."""
    journal, reading = LimitJournal(), of_teams()
    journal.step(control=[removed(organisation_id="o-1")])
    take(reading, journal)
    assert not reading.pending


def test_crossings_of_organisations() -> None:
    """They are keyed by the organisation, whose id no team's can be taken for."""
    row = crossing("blocked") | {"organisation_id": "o-1", "subject": "organisation"}
    row["cause"]["team_id"] = row.pop("team_id")
    journal, reading = LimitJournal(), of_organisations()
    journal.step(crossings=[row])
    take(reading, journal)
    (told,) = reading.pending.thresholds
    assert told.key == b"o-1"
    parse_event(told.value, THRESHOLDS)
    event = json.loads(told.value)
    start = format_rfc3339(from_us(DAY_1_US))
    assert event["id"] == threshold_id(LIMIT_BLOCKED, "organisation", "o-1", "l-1", 1, start, 1, 1)
    assert event["data"]["organisation_id"] == "o-1"
    assert "team_id" not in event["data"]
    assert event["data"]["cause"] == {
        "source": "/tests", "id": "e-7", "offset": 7, "team_id": "team-1",
    }  # fmt: skip


def test_what_is_counted_of_teams() -> None:
    """Heartbeats tell the last of each partition; what is new is published with its record."""
    journal, reading = LimitJournal(), of_organisations()

    def known() -> list[tuple[int, int]]:
        beat = heartbeat(reading)
        assert beat.owners == "organisations"
        return [(one.partition, one.events_position) for one in beat.counted]

    journal.step()
    take(reading, journal)
    assert known() == []
    assert not reading.pending
    journal.step(counted=[[str(TOPIC), 1, 2, 8, 20], [str(TOPIC), 1, 0, 5, 10]])
    journal.step(counted=[[str(TOPIC), 1, 2, 9, 30]])
    take(reading, journal)
    assert known() == [(0, 10), (2, 30)]
    assert heartbeat(reading).counted[1] == AsOf(
        events_topic_id=TOPIC, generation=1, partition=2, journal_offset=9, events_position=30
    )
    assert reading.pending
    assert not reading.pending.is_urgent
    reading.pending.clear()
    assert not reading.pending
    assert known() == [(0, 10), (2, 30)], "all that is known is told again"
    journal.new_generation(counted=[[str(TOPIC), 1, 0, 6, 11]])
    take(reading, journal)
    assert known() == [(0, 11)], "a generation begins with all that is counted"
    assert reading.pending
