"""The states and heartbeats that the publisher writes fast are those of the contract's models."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tests.support.journal import arrow

from meterstream.schemas.journal import Link, Section
from meterstream.schemas.rows import LIMIT_STATE
from meterstream.schemas.thresholds import (
    AsOf,
    LimitHeartbeat,
    LimitState,
    Owners,
    heartbeat_key,
    state_key,
)
from meterstream.schemas.times import from_us, to_us
from meterstream.streams.publisher import place as fast
from meterstream.streams.publisher.place import Place
from meterstream.streams.publisher.states import States

I64 = st.integers(-(2**63) + 1, 2**63 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
NAMES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    | st.characters(codec="utf-8", min_codepoint=0xA0),
    min_size=1,
    max_size=64,
)
"""Names hold no control characters."""
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda moment: to_us(moment.replace(tzinfo=UTC))
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Return a row of LIMIT_STATES, with what its columns may hold."""
    start_us = draw(TIMES)
    window = draw(st.sampled_from(["day", "month", "balance"]))
    return {
        "team_id": draw(NAMES),
        "limit_id": draw(NAMES),
        "limit_version": draw(st.integers(1, 1_000_000)),
        "subject": draw(st.sampled_from(["team", "user", "agent", "project", "feature"])),
        "subject_id": draw(st.just("") | NAMES),
        "measure": draw(st.sampled_from(["credits", "tokens", "runs", "api_calls", "sessions"])),
        "window": window,
        "window_start": start_us,
        "window_end": 0 if window == "balance" else start_us + draw(st.integers(1, 10**12)),
        "amount": draw(st.integers(0, 10**15)),
        "enforcement": draw(st.sampled_from(["hard", "soft"])),
        "used": draw(I64),
        "reached_permille": draw(st.integers(0, 10_000)),
        "blocked": draw(st.integers(0, 1)),
    }


@st.composite
def places(draw: st.DrawFn, clock_us: int) -> tuple[Place, AsOf]:
    """Return up to where was counted, as the publisher and as the contract has it."""
    topic_id = UUID(int=draw(st.integers(0, 2**128 - 1)))
    partition = draw(st.integers(0, 2**31 - 1))
    generation = draw(st.integers(0, 2**32 - 1))
    prev, events = draw(OFFSETS), draw(OFFSETS)
    place = Place(topic_id, partition, Link(prev + 1, prev, generation, events, clock_us))
    as_of = AsOf(
        events_topic_id=topic_id,
        generation=generation,
        partition=partition,
        journal_offset=prev,
        events_position=events,
    )
    return place, as_of


def model_of(row: dict[str, Any], as_of: AsOf, owners: Owners) -> LimitState:
    """Return the state that a row tells, by the contract's model."""
    end = None if row["window"] == "balance" else from_us(row["window_end"])
    plain = {name: row[name] for name in LimitState.model_fields if name in row}
    if owners == "organisations":
        plain["organisation_id"] = plain.pop("team_id")
    return LimitState.model_validate(
        plain
        | {
            "subject_id": row["subject_id"] or None,
            "window_start": from_us(row["window_start"]),
            "window_end": end,
            "as_of": as_of,
            "state": "blocked" if row["blocked"] else "admitting",
        }
    )


OWNERS: st.SearchStrategy[Owners] = st.sampled_from(["teams", "organisations"])


@given(row=rows(), owners=OWNERS, data=st.data())
def test_states(row: dict[str, Any], owners: Owners, data: st.DataObject) -> None:
    """Key and JSON of a state are those of the model of the same content."""
    place, as_of = data.draw(places(row["window_start"]))
    if owners == "organisations":
        row |= {"subject": "organisation", "subject_id": ""}
    states = States(owners)
    sections = {Section.LIMIT_STATES: memoryview(arrow(LIMIT_STATE, [row]))}
    states.take(sections, place)
    ((key, value),) = states.records(row["window_start"])
    model = model_of(row, as_of, owners)
    assert key.decode() == state_key(model)
    assert value is not None
    assert json.loads(value) == json.loads(model.model_dump_json(exclude_none=True))
    assert LimitState.model_validate_json(value) == model


@given(clock_us=TIMES, owners=OWNERS, data=st.data())
def test_heartbeats(clock_us: int, owners: Owners, data: st.DataObject) -> None:
    """Key and JSON of a heartbeat are those of the model of the same content.

    Only one of organisations says what is counted of teams.
    """
    place, as_of = data.draw(places(clock_us))
    counted = data.draw(st.lists(places(0), max_size=3)) if owners == "organisations" else []
    all_told = data.draw(st.booleans())
    place = replace(
        place,
        owners=owners,
        all_told=all_told,
        counted=[fast.AsOf(**one.model_dump()) for _, one in counted],
    )
    model = LimitHeartbeat(
        partition=place.partition,
        as_of=as_of,
        clock=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock_us),
        owners=owners,
        all_told=all_told,
        counted=tuple(one for _, one in counted),
    )
    key, value = place.heartbeat()
    assert key.decode() == heartbeat_key(place.partition, owners)
    told = json.loads(model.model_dump_json())
    if owners == "teams":
        assert told.pop("counted") == []
    assert json.loads(value) == told
