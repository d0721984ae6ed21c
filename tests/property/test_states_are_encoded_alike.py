"""The states and heartbeats that the publisher writes fast are those of the contract's models."""

import json
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
    heartbeat_key,
    state_key,
)
from meterstream.schemas.times import from_us, to_us
from meterstream.streams.publisher.states import Place, States

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


def model_of(row: dict[str, Any], as_of: AsOf) -> LimitState:
    """Return the state that a row tells, by the contract's model."""
    end = None if row["window"] == "balance" else from_us(row["window_end"])
    plain = {name: row[name] for name in LimitState.model_fields if name in row}
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


@given(row=rows(), data=st.data())
def test_states(row: dict[str, Any], data: st.DataObject) -> None:
    """Key and JSON of a state are those of the model of the same content."""
    place, as_of = data.draw(places(row["window_start"]))
    states = States()
    sections = {Section.LIMIT_STATES: memoryview(arrow(LIMIT_STATE, [row]))}
    states.take(sections, place)
    ((key, value),) = states.records(row["window_start"])
    model = model_of(row, as_of)
    assert key.decode() == state_key(model)
    assert value is not None
    assert json.loads(value) == json.loads(model.model_dump_json(exclude_none=True))
    assert LimitState.model_validate_json(value) == model


@given(clock_us=TIMES, data=st.data())
def test_heartbeats(clock_us: int, data: st.DataObject) -> None:
    """Key and JSON of a heartbeat are those of the model of the same content."""
    place, as_of = data.draw(places(clock_us))
    model = LimitHeartbeat(
        partition=place.partition,
        as_of=as_of,
        clock=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock_us),
    )
    key, value = place.heartbeat()
    assert key.decode() == heartbeat_key(place.partition)
    assert json.loads(value) == json.loads(model.model_dump_json())
