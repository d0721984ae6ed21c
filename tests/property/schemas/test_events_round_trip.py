"""Valid events of every type, with any of their fields."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.mutations import MUTATIONS, RUN_MUTATIONS
from tests.support.strategies import SCHEMAS, events

from meterstream.schemas.registry import MODELS, InvalidEvent, parse_event
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED
from meterstream.schemas.topics import EVENTS

TYPES = [(topic, name) for topic, models in MODELS.items() for name in models]
_slow = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize(("topic", "event_type"), TYPES)
def test_valid_events_are_accepted(topic: str, event_type: str) -> None:
    """What the JSON Schema of a type allows and is consistent, is an event, and writes back so."""
    validator = jsonschema.Draft202012Validator(SCHEMAS[event_type])

    @given(events(event_type))
    @_slow
    def accepted(event: dict[str, Any]) -> None:
        validator.validate(event)
        parsed = parse_event(json.dumps(event).encode(), topic)
        assert parsed.type == event_type  # type: ignore[attr-defined]
        written = parsed.model_dump_json(exclude_none=True).encode()
        validator.validate(json.loads(written))
        assert parse_event(written, topic) == parsed

    accepted()


@given(st.sampled_from(sorted(MUTATIONS)), st.data())
@_slow
def test_a_broken_event_has_its_reason(name: str, data: st.DataObject) -> None:
    """An event that is broken in one way is refused with that reason and the field's path."""
    event_type = data.draw(st.sampled_from(sorted(MODELS[EVENTS])))
    _check(MUTATIONS[name].verdict, MUTATIONS[name].path, name, data.draw(events(event_type)))


@given(st.sampled_from(sorted(RUN_MUTATIONS)), events(RUN_COMPLETED))
@_slow
def test_a_broken_run_has_its_reason(name: str, event: dict[str, Any]) -> None:
    """A completed run that is broken in one way is refused with that reason and path."""
    event["data"] = {
        key: value
        for key, value in event["data"].items()
        if key not in ("cached_tokens", "reasoning_tokens", "ended_at")
    }
    _check(RUN_MUTATIONS[name].verdict, RUN_MUTATIONS[name].path, name, event)


def _check(verdict: int, path: str, name: str, event: dict[str, Any]) -> None:
    value = {**MUTATIONS, **RUN_MUTATIONS}[name].apply(event)
    with pytest.raises(InvalidEvent) as refused:
        parse_event(value)
    assert (refused.value.verdict, refused.value.detail.startswith(path)) == (verdict, True)


@given(events(RUN_STARTED), st.text(min_size=8).filter(lambda text: text.strip("a") == text))
@_slow
def test_a_reason_never_quotes_the_event(event: dict[str, Any], secret: str) -> None:
    """Whatever a refused event says, its reason says nothing of it."""
    secret = f"§{secret}§"
    for broken in (
        {**event, "type": secret},
        {**event, "specversion": secret},
        {**event, "time": secret},
        {**event, "data": {**event["data"], secret: 1}},
        {**event, "data": {**event["data"], "tags": {secret: 5}}},
        {**event, "data": {**event["data"], "operation": secret}},
        {**event, "data": {**event["data"], "team_id": secret * 64}},
    ):
        with pytest.raises(InvalidEvent) as refused:
            parse_event(json.dumps(broken).encode())
        assert "§" not in refused.value.detail
