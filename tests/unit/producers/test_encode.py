"""An event is encoded as the contract says, or refused with the fields at fault."""

import json
from typing import Any

import pytest
from tests.support.events import VALID_ONLY, make_records
from tests.support.publishing import run_event

from meterstream.producers import EventTooLarge, InvalidEvent
from meterstream.producers.encode import encode
from meterstream.producers.ids import derived_id
from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted


def test_a_mapping_and_its_model_give_the_same_bytes() -> None:
    """It makes no difference in which form an event is handed over."""
    from_mapping = encode(run_event(1), "/tests")
    assert isinstance(from_mapping.event, RunCompleted)
    assert encode(from_mapping.event) == from_mapping


def test_the_key_is_the_team() -> None:
    """Kafka's partitioner hashes the bytes of the team's id."""
    assert encode(run_event(1, "équipe"), "/tests").key == "équipe".encode()


def test_what_is_encoded_is_what_the_meter_reads() -> None:
    """Any valid event is the same event after encoding, by the meter's own reading."""
    for record in make_records(7, 500, mix=VALID_ONLY):
        assert record.value is not None
        event = json.loads(record.value)
        encoded = encode(event)
        assert parse_event(encoded.value) == encoded.event == parse_event(record.value)


def test_the_id_follows_from_the_run() -> None:
    """Two attempts to report one run are one event."""
    assert encode(run_event(5), "/a").event.id == "completed:run-5"
    started = run_event(5) | {"type": "meterstream.run.started.v1"}
    started["data"] = {
        k: started["data"][k] for k in ("team_id", "run_id", "operation", "started_at")
    }
    assert encode(started, "/a").event.id == "started:run-5"
    assert encode(run_event(5) | {"id": "own"}, "/a").event.id == "own"


@pytest.mark.parametrize("length", [1, 117, 118, 119, 128])
def test_a_derived_id_always_fits(length: int) -> None:
    """A run id of any allowed length gives an id of at most 128 characters, its own one."""
    ids = {derived_id("completed", letter * length) for letter in "ab"}
    assert len(ids) == 2
    assert all(len(known) <= 128 for known in ids)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "meterstream.run.completed.v9"}, "'meterstream.run.completed.v9'"),
        ({"type": ["list"]}, "type"),
        ({"type": None}, "breaks the contract"),
        ({"time": "yesterday"}, "time: not an RFC 3339 time"),
        ({"data": None}, "data"),
        ({"data": {}}, "data.team_id: Field required"),
        ({"source": ""}, "source"),
        ({"id": "x" * 129}, "id"),
    ],
)
def test_a_faulty_envelope_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    """The error names the field at fault."""
    with pytest.raises(InvalidEvent) as caught:
        encode(run_event(1) | change, "/tests")
    assert named in str(caught.value)


def test_every_fault_is_named_and_no_value() -> None:
    """The error tells all fields at fault, and never what they held."""
    secret = "somebody@example.org\n"
    with pytest.raises(InvalidEvent) as caught:
        encode(run_event(-1, user_id=secret, status="odd", surprise=1), "/tests")
    text = str(caught.value)
    for field in ("data.input_tokens", "data.user_id", "data.status", "data.surprise"):
        assert field in text
    assert "somebody" not in text


def test_many_faults_are_counted() -> None:
    """A long list of faults is cut, and says so."""
    with pytest.raises(InvalidEvent, match="and 20 more"):
        encode(run_event(1, "team-1", **{f"field_{number}": 1 for number in range(30)}), "/tests")


def test_an_event_past_the_size_limit_is_refused_with_the_remedy() -> None:
    """Text that fits by characters may still be too long by bytes of JSON."""
    long = "\x01" * 16_384
    with pytest.raises(EventTooLarge, match="shorten input, output"):
        encode(run_event(1, input=long, output=long), "/tests")


def test_what_is_no_event_is_refused_by_its_type() -> None:
    """Neither text nor a list is taken for an event."""
    with pytest.raises(InvalidEvent, match="not str"):
        encode("{}")  # type: ignore[arg-type]


def test_a_mapping_without_a_source_needs_the_publishers() -> None:
    """The source is part of an event's identity, so it is never made up."""
    with pytest.raises(InvalidEvent, match="source: Field required"):
        encode(run_event(1))
