"""Reading an event's bytes: one precise reason, chosen the same way every time."""

import json
from copy import deepcopy
from typing import Any

import pytest
from tests.support.mutations import (
    JSON_CONTENT_TYPES,
    MUTATIONS,
    OTHER_CONTENT_TYPES,
    RUN_MUTATIONS,
)

from meterstream.schemas.envelope import Envelope
from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.registry import MAX_DEPTH, MODELS, InvalidEvent, parse_event
from meterstream.schemas.run import RUN_COMPLETED, RunCompleted
from meterstream.schemas.topics import BY_NAME, CATALOG, CONTROL
from meterstream.schemas.verdicts import Verdict

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": RUN_COMPLETED,
    "id": "e-1",
    "source": "/gateway",
    "time": "2026-01-01T00:00:01Z",
    "data": {
        "team_id": "team",
        "run_id": "r-1",
        "operation": "agent_run",
        "started_at": "2026-01-01T00:00:00Z",
        "status": "completed",
        "tags": {"env": "prod"},
    },
}


def refusal(value: bytes | None, topic: str = "events") -> InvalidEvent:
    """Return the refusal of a value."""
    with pytest.raises(InvalidEvent) as refused:
        parse_event(value, topic)
    return refused.value


def encode(event: object) -> bytes:
    """Return an event's JSON."""
    return json.dumps(event).encode()


def with_data(**fields: object) -> bytes:
    """Return the event with other fields of `data`."""
    return encode({**EVENT, "data": {**EVENT["data"], **fields}})


def test_a_valid_event_is_read() -> None:
    """An event that keeps to the contract comes back as its model."""
    event = parse_event(encode(EVENT))
    assert isinstance(event, RunCompleted)
    assert event.data.tags == {"env": "prod"}


@pytest.mark.parametrize("name", [*MUTATIONS, *RUN_MUTATIONS])
def test_each_kind_of_damage_has_its_reason(name: str) -> None:
    """Each way of breaking an event is refused with its own verdict and the path of the field."""
    mutation = {**MUTATIONS, **RUN_MUTATIONS}[name]
    found = refusal(mutation.apply(deepcopy(EVENT)))
    assert (found.verdict, found.detail.startswith(mutation.path)) == (mutation.verdict, True)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (None, "the record has no value; an event is JSON text"),
        (b"\xff", "the bytes from 0 on are not UTF-8"),
        (b"[" * 65, f"nested deeper than {MAX_DEPTH} levels"),
        (b"x" * (MAX_EVENT_BYTES + 1), "the value has 131073 bytes; an event has 131072 at most"),
        (encode({**EVENT, "specversion": "2"}), 'specversion: "1.0" is expected'),
        (encode({**EVENT, "id": 5}), "id: text is expected"),
        (with_data(team_id=""), "data.team_id: 1 or more characters are expected"),
        (with_data(input_tokens=-1), "data.input_tokens: 0 or more is expected"),
        (with_data(caller="x"), "data.caller: one of 'ui', 'api' or 'schedule' is expected"),
        (with_data(tags={"secret": 1}), "data.tags[...]: text is expected"),
        (with_data(tags=[]), "data.tags: an object is expected"),
        (with_data(secret=1), "data: a field that the contract does not name; is one misspelt?"),
        (with_data(cached_tokens=1), "data: cached_tokens exceed input_tokens"),
        (
            with_data(latency_us=1, time_to_first_token_us=2),
            "data: time_to_first_token_us exceeds latency_us",
        ),
        (
            with_data(ended_at="2026-01-01T00:05:01.000001Z"),
            "time and data.ended_at lie more than 5 minutes apart; usage is counted at time",
        ),
        (with_data(user_id="u" * 129), "data.user_id: 128 characters at most are expected"),
        (with_data(user_id="a\x00"), "data.user_id: holds a control character"),
        (
            encode({**EVENT, "datacontenttype": "text/json"}),
            "datacontenttype: application/json is expected, with or without parameters",
        ),
        (with_data(started_at="2026-01-02T00:00:00Z"), "time lies before started_at"),
        (
            with_data(started_at="2026-13-02T00:00:00Z"),
            "data.started_at: no such day or time of day; a leap second is none either",
        ),
    ],
)
def test_details_say_what_was_expected_where(value: bytes | None, detail: str) -> None:
    """The detail names the field and the expectation, and nothing that the value said."""
    assert refusal(value).detail == detail


def test_reasons_come_in_a_fixed_order() -> None:
    """Of several faults the first in the documented order is named, and mending it shows the next.

    The order: envelope fields, data fields as declared, unknown fields, consistency.
    """
    event = deepcopy(EVENT)
    event |= {"specversion": "2", "type": "x", "id": "", "time": "x"}
    event["data"] |= {"surplus": 1, "team_id": None, "status": "x", "input_tokens": -1}
    event["data"] |= {"output_tokens": 1, "reasoning_tokens": 2}
    mended: list[tuple[Verdict, str]] = []
    for path, good in (
        (("specversion",), "1.0"),
        (("type",), RUN_COMPLETED),
        (("id",), "e-1"),
        (("time",), EVENT["time"]),
        (("data", "team_id"), "team"),
        (("data", "status"), "completed"),
        (("data", "input_tokens"), 5),
        (("data", "surplus"), None),
        (("data", "reasoning_tokens"), 1),
    ):
        found = refusal(encode(event))
        mended.append((found.verdict, found.detail.split(":")[0]))
        target = event["data"] if len(path) == 2 else event
        target[path[-1]] = good
        event["data"].pop("surplus", None) if path[-1] == "surplus" else None
    assert mended == [
        (Verdict.UNKNOWN_SPECVERSION, "specversion"),
        (Verdict.UNKNOWN_TYPE, "type"),
        (Verdict.OUT_OF_RANGE, "id"),
        (Verdict.INVALID_TIME, "time"),
        (Verdict.WRONG_TYPE, "data.team_id"),
        (Verdict.OUT_OF_RANGE, "data.status"),
        (Verdict.OUT_OF_RANGE, "data.input_tokens"),
        (Verdict.UNKNOWN_FIELD, "data"),
        (Verdict.INCONSISTENT, "data"),
    ]
    parse_event(encode(event))


def test_of_a_key_that_occurs_twice_the_last_holds() -> None:
    """A repeated key counts with its last value, good or bad, as in other JSON readers."""
    good, bad = b'"id": "e-1"', b'"id": 5'
    value = encode(EVENT)
    event = parse_event(value.replace(good, bad + b", " + good))
    assert event.id == "e-1"
    assert refusal(value.replace(good, good + b", " + bad)).verdict is Verdict.WRONG_TYPE


def test_extension_attributes_are_ignored() -> None:
    """An attribute that CloudEvents allows and we do not know makes no difference."""
    plain = parse_event(encode(EVENT))
    assert parse_event(encode({**EVENT, "traceparent": "00-1", "sequence": 5})) == plain
    deepest = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert parse_event(encode(EVENT)[:-1] + b',"ext":' + deepest + b"}") == plain


def test_brackets_in_texts_are_not_nesting() -> None:
    """A prompt full of brackets and quotes is text and no nesting."""
    prompt = '[{"' * 200 + "\\"
    event = parse_event(with_data(input=prompt))
    assert isinstance(event, RunCompleted)
    assert event.data.input == prompt


def test_null_stands_for_an_absent_optional_field() -> None:
    """An optional field without a default may be null, and is as if it were not there."""
    assert parse_event(with_data(user_id=None, ended_at=None)) == parse_event(encode(EVENT))


@pytest.mark.parametrize("content_type", JSON_CONTENT_TYPES)
def test_the_content_is_json_however_that_is_written(content_type: str | None) -> None:
    """The media type of JSON is taken in any case, with parameters, or left out."""
    parse_event(encode({**EVENT, "datacontenttype": content_type}))


@pytest.mark.parametrize("content_type", OTHER_CONTENT_TYPES)
def test_other_content_is_refused(content_type: str) -> None:
    """What only looks like the media type of JSON is refused."""
    found = refusal(encode({**EVENT, "datacontenttype": content_type}))
    assert (found.verdict, found.detail[:16]) == (Verdict.INVALID_TEXT, "datacontenttype:")


def test_users_have_long_names() -> None:
    """A user's id holds 128 characters of any alphabet."""
    event = parse_event(with_data(user_id="ü" * 128))
    assert isinstance(event, RunCompleted)
    assert event.data.user_id == "ü" * 128


@pytest.mark.parametrize("digits", ["-0", "0"])
def test_minus_zero_is_zero(digits: str) -> None:
    """`-0` is the integer 0."""
    event = parse_event(with_data(input_tokens=77).replace(b"77", digits.encode()))
    assert isinstance(event, RunCompleted)
    assert event.data.input_tokens == 0


def test_a_type_of_another_topic_is_unknown() -> None:
    """An event is read only in the topic it belongs to."""
    for topic in (CATALOG, CONTROL):
        assert refusal(encode(EVENT), topic).verdict is Verdict.UNKNOWN_TYPE


def test_positions_in_arrays_are_named() -> None:
    """In a rate card the detail names the line by its position."""
    card = {**EVENT, "type": "meterstream.rate-card.published.v1"}
    card["data"] = {"name": "default", "version": 1, "effective_from": EVENT["time"]}
    card["data"]["prices"] = [{}, {"run_micro": "5"}]
    assert (
        refusal(encode(card), CATALOG).detail == "data.prices[1].run_micro: an integer is expected"
    )
    card["data"]["prices"] = [{"secret": 1}]
    assert refusal(encode(card), CATALOG).detail.startswith("data.prices[0]: a field that")


def test_every_model_is_registered_under_its_own_type() -> None:
    """Each type stands in one topic that exists, with the model whose default type it is."""
    seen: set[str] = set()
    for topic, models in MODELS.items():
        assert topic in BY_NAME
        for name, model in models.items():
            assert model.model_fields["type"].default == name
            assert issubclass(model, Envelope)
            assert name not in seen
            seen.add(name)
