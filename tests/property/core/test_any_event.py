"""Events with any of their fields, whole or damaged, get the model's verdict from the core."""

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import run_core
from tests.support.events import START_US
from tests.support.model import DAY_US, HOUR_US, Record, Rules, run_model
from tests.support.mutations import MUTATIONS, scramble
from tests.support.strategies import events

from meterstream.schemas.registry import MODELS
from meterstream.schemas.topics import EVENTS
from meterstream.streams.core import Policy

any_event = st.one_of(*(events(name) for name in MODELS[EVENTS]))
# The strategies' times lie within two days, all of which a clock at the end of them still takes.
SETTINGS: dict[str, Any] = {"horizon_us": 4 * DAY_US, "grace_us": HOUR_US}
CLOCK_US = START_US + DAY_US
a_few = settings(max_examples=share(40), deadline=None, suppress_health_check=list(HealthCheck))


def assert_same(values: list[bytes | None]) -> None:
    """Assert that core and model agree on values that arrive one after the other."""
    records = [Record(i, CLOCK_US + 1_000 * i, value) for i, value in enumerate(values)]
    expected = run_model(records, Rules(1, **SETTINGS), 0, now_us=CLOCK_US, clock_us=CLOCK_US)
    meter = run_core(records, Policy(1, **SETTINGS), 0, now_us=CLOCK_US, clock_us=CLOCK_US)
    assert meter.reader.counted == expected


def encode(event: dict[str, Any], *, ascii_only: bool) -> bytes:
    """Return an event's JSON, with or without escapes for what is beyond ASCII."""
    return json.dumps(event, ensure_ascii=ascii_only).encode()


@given(st.lists(st.tuples(any_event, st.booleans()), min_size=1, max_size=6))
@a_few
def test_whole_events(drawn: list[tuple[dict[str, Any], bool]]) -> None:
    """Whatever fields a valid event has, and however it is escaped, both count the same of it."""
    assert_same([encode(event, ascii_only=ascii_only) for event, ascii_only in drawn])


@given(st.lists(st.tuples(any_event, st.integers(0, 2**32), st.booleans()), min_size=1, max_size=6))
@a_few
def test_damaged_events(drawn: list[tuple[dict[str, Any], int, bool]]) -> None:
    """Whatever damage is done to an event's bytes, both refuse it for one reason or take it."""
    values: list[bytes | None] = []
    for event, seed, known in drawn:
        rng = random.Random(seed)
        if known:
            values.append(MUTATIONS[rng.choice(sorted(MUTATIONS))].apply(event))
        else:
            values.append(scramble(encode(event, ascii_only=False), rng))
    assert_same(values)


@given(any_event, st.integers(0, 2**32))
@a_few
def test_resends(event: dict[str, Any], seed: int) -> None:
    """An event that is sent again, as it was or damaged, is a duplicate for both or for none."""
    value = encode(event, ascii_only=False)
    again = encode({**event, "traceparent": "00-1"}, ascii_only=True)
    changed = scramble(value, random.Random(seed))
    assert_same([value, again, changed, value, changed])
