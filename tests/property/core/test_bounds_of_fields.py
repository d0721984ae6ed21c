"""Every bound of every field holds in the hot path, to the character and the unit."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from tests.support.core_runner import run_core
from tests.support.events import START_US
from tests.support.model import Record, Rules, run_model
from tests.support.strategies import SCHEMAS

from meterstream.schemas.registry import MODELS
from meterstream.schemas.run import RUN_COMPLETED
from meterstream.schemas.topics import EVENTS
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import Policy

Event = dict[str, Any]
Case = tuple[str, Event, bool]
"""What was done, the event, and whether it is still valid."""

WHOLES = {"cached_tokens": "input_tokens", "reasoning_tokens": "output_tokens"}
ENVELOPE = ("id", "source", "dataschema", "subject")


def smallest(event_type: str) -> Event:
    """Return a valid event with no field but the required ones."""
    time = "2026-01-01T00:00:00Z"
    known = {"operation": "agent_run", "status": "completed", "started_at": time}
    data_schema = _data_schema(event_type)
    return {
        "specversion": "1.0",
        "type": event_type,
        "id": "e",
        "source": "s",
        "time": time,
        "data": {name: known.get(name, "x") for name in data_schema["required"]},
    }


def _data_schema(event_type: str) -> Event:
    schema = SCHEMAS[event_type]
    found: Event = schema["$defs"][schema["properties"]["data"]["$ref"].rsplit("/", 1)[-1]]
    return found


def _without_null(schema: Event) -> Event:
    branches: list[Event] = schema.get("anyOf", [schema])
    return next(branch for branch in branches if branch.get("type") != "null")


def edges(schema: Event) -> Iterator[tuple[str, Any, bool]]:
    """Yield values at and just beyond each bound of a field, and whether they are allowed."""
    schema = _without_null(schema)
    if "enum" in schema:
        yield from ((value, value, True) for value in schema["enum"])
        yield "another word", schema["enum"][0] + "x", False
    elif schema["type"] == "integer":
        low, high = schema["minimum"], schema["maximum"]
        for value in (low - 1, low, high, high + 1):
            yield str(value), value, low <= value <= high
    elif schema["type"] == "object":
        yield from _edges_of_map(schema)
    elif "maxLength" in schema:
        low, high = schema.get("minLength", 0), schema["maxLength"]
        for length in {0, low, high, high + 1}:
            yield f"{length} letters", "x" * length, low <= length <= high
        yield "a control character", "x\x1f", "pattern" not in schema
        yield "delete", "x\x7f", "pattern" not in schema
        yield "a C1 control character", "x\x9f", "pattern" not in schema


def _edges_of_map(schema: Event) -> Iterator[tuple[str, Any, bool]]:
    many, values = schema["maxProperties"], schema["additionalProperties"]
    sample = 1 if values["type"] == "integer" else "v"
    for count in (0, many, many + 1):
        yield f"{count} entries", {str(i): sample for i in range(count)}, count <= many
    for what, key, allowed in edges({"type": "string", **schema["propertyNames"]}):
        yield f"name of {what}", {key: sample}, allowed
    for what, value, allowed in edges(values):
        yield f"value of {what}", {"k": value}, allowed


def cases(event_type: str) -> Iterator[Case]:
    """Yield events of a type with one field at an edge, each with an id of its own."""
    schema, data_schema = SCHEMAS[event_type], _data_schema(event_type)
    number = 0
    for where, fields in (("envelope", schema["properties"]), ("data", data_schema["properties"])):
        for name, field in fields.items():
            if where == "envelope" and name not in ENVELOPE:
                continue
            for what, value, allowed in edges(field):
                number += 1
                event = deepcopy(smallest(event_type))
                event["id"] = f"e-{number}"
                target = event if where == "envelope" else event["data"]
                target[name] = value
                if allowed and name in WHOLES:
                    target[WHOLES[name]] = value
                yield f"{where} {name}: {what}", event, allowed


@pytest.mark.parametrize("event_type", sorted(MODELS[EVENTS]))
def test_each_bound_is_held(event_type: str) -> None:
    """A field at its bound counts, one beyond it is refused, in the core as in the models."""
    drawn = list(cases(event_type))
    assert len(drawn) > (150 if event_type == RUN_COMPLETED else 60)
    records = [
        Record(i, START_US + i, json.dumps(event).encode()) for i, (_, event, _) in enumerate(drawn)
    ]
    expected = run_model(records, Rules(1), 0, now_us=START_US, clock_us=START_US)
    meter = run_core(records, Policy(1), 0, now_us=START_US, clock_us=START_US, restarts=False)
    for i, (what, _, allowed) in enumerate(drawn):
        assert (expected.verdicts[i] is Verdict.COUNTED) == allowed, what
        assert meter.reader.counted.verdicts[i] is expected.verdicts[i], what
    assert meter.reader.counted == expected
