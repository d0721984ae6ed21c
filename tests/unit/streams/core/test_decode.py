"""Fast decoding: what it gives, and what makes two events say the same."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.craft import NOW, Json, encode, envelope, run, session
from tests.support.mutations import JSON_CONTENT_TYPES, OTHER_CONTENT_TYPES

from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import decode as module
from meterstream.streams.core.decode import (
    SESSION_EVENTS,
    TYPE_NUMBER,
    AnyEvent,
    Completed,
    Refused,
    SessionEnded,
    SessionHeartbeat,
    SessionStarted,
    Started,
    content_of,
    decode_event,
    decode_slowly,
)


def content(event: Json | AnyEvent) -> bytes:
    """Return the content of an event, decoded if need be."""
    return content_of(decode_event(encode(event)) if isinstance(event, dict) else event)


def start(**data: Any) -> Json:
    """Return the start of a run."""
    plain = {
        "team_id": "t",
        "run_id": "r",
        "operation": "feature",
        "started_at": "2026-01-01T00:00:00Z",
    }
    return envelope("run.started", "e", NOW, plain | data)


EVENTS: list[tuple[type, Json]] = [
    (Completed, run()),
    (Started, start()),
    (SessionStarted, session("started", application="x")),
    (SessionHeartbeat, session("heartbeat")),
    (SessionEnded, session("ended")),
]


@pytest.mark.parametrize(("kind", "event"), EVENTS)
def test_each_type_is_decoded(kind: type, event: Json) -> None:
    """An event of each type is read, fast and slowly, to the same."""
    value = encode(event)
    found = decode_event(value)
    assert type(found) is kind
    assert found == decode_slowly(value)
    assert (found.id, found.source, found.time) == (
        event["id"],
        "/tests",
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert isinstance(found, SESSION_EVENTS) is (kind not in (Completed, Started))


def test_types_are_told_apart() -> None:
    """Each type has a number of its own that never changes."""
    assert [TYPE_NUMBER[kind] for kind, _ in EVENTS] == [1, 2, 3, 4, 5]


def test_a_good_event_is_not_shown_to_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow reading is for what the fast one refuses, known extension attributes included."""

    def fail(value: bytes | None) -> AnyEvent:
        raise AssertionError("read slowly")

    monkeypatch.setattr(module, "decode_slowly", fail)
    for _, event in EVENTS:
        decode_event(
            encode({**event, "traceparent": "00-1", "partitionkey": 1, "tracestate": None})
        )
    with pytest.raises(AssertionError, match="read slowly"):
        decode_event(encode({**run(), "myown": 1}))


def test_what_is_refused_carries_its_reason() -> None:
    """A verdict, and a detail that names the field and not its value."""
    with pytest.raises(Refused) as refused:
        decode_event(encode(run(input_tokens=-5)))
    assert refused.value.verdict is Verdict.OUT_OF_RANGE
    assert refused.value.detail == str(refused.value) == "data.input_tokens: 0 or more is expected"
    with pytest.raises(Refused) as refused:
        decode_event(None)
    assert refused.value.verdict is Verdict.NULL_VALUE


def test_unknown_extensions_are_ignored() -> None:
    """An event with attributes of its sender is the same event."""
    assert decode_event(encode({**run(), "myown": [1, {"a": None}]})) == decode_event(encode(run()))


@pytest.mark.parametrize(
    "dressing",
    [
        {"user_id": None, "input_tokens": 0, "tags": None},
        {"started_at": "2026-01-01T00:59:59.0000+01:00"},
        {"started_at": "2025-12-31 23:59:59z"},
    ],
    ids=str,
)
def test_dressing_makes_no_difference(dressing: Json) -> None:
    """Null instead of absent, a default that is named, an instant in another zone say the same."""
    assert content(run(**dressing)) == content(run())


@pytest.mark.parametrize("content_type", JSON_CONTENT_TYPES)
def test_the_content_is_json_however_that_is_written(
    monkeypatch: pytest.MonkeyPatch, content_type: str | None
) -> None:
    """Media types of JSON are read by the fast reader itself, and make no difference."""
    expected = content(run())
    monkeypatch.setattr(module, "decode_slowly", None)
    assert content({**run(), "datacontenttype": content_type}) == expected


@pytest.mark.parametrize("content_type", OTHER_CONTENT_TYPES)
def test_other_content_is_refused(content_type: str) -> None:
    """What only looks like the media type of JSON is refused, for the reason the models name."""
    with pytest.raises(Refused) as refused:
        decode_event(encode({**run(), "datacontenttype": content_type}))
    assert refused.value.verdict is Verdict.INVALID_TEXT


def test_order_and_white_space_make_no_difference() -> None:
    """The same fields and tags in another order and layout say the same, read either way."""
    event = run(tags={"a": "1", "b": "2"}, quantities={"x": 1, "y": 2}, input_tokens=5)
    data = dict(reversed(event["data"].items()))
    data["tags"] = {"b": "2", "a": "1"}
    data["quantities"] = {"y": 2, "x": 1}
    other = json.dumps({**event, "data": data}, indent=2).encode()
    assert content_of(decode_event(other)) == content(event)
    assert content_of(decode_slowly(other)) == content(event)


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "u"}, {"input_tokens": 1}, {"latency_us": 0}, {"credits_micro": 0},
        {"status": "failed"}, {"tags": {}}, {"tags": {"a": "b"}}, {"input": ""},
        {"started_us": NOW}, {"operation": "feature"},
    ],
    ids=str,
)  # fmt: skip
def test_another_value_is_other_content(change: Json) -> None:
    """Whatever says something else is told apart, an empty value from an absent one too."""
    assert content(run(**change)) != content(run())


def test_the_envelope_is_not_content() -> None:
    """Subject, schema and extensions may differ from one attempt to the next."""
    event = {
        **run(),
        "subject": "s",
        "dataschema": "d",
        "traceparent": "t",
        "datacontenttype": "application/json",
    }
    assert content(event) == content(run())
