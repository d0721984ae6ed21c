"""The compatibility check lets through what keeps promises, and nothing else."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from meterstream.schemas.generation.compatibility import breaking_changes
from meterstream.schemas.generation.json_schema import event_schemas
from meterstream.schemas.run import RUN_COMPLETED

Schema = dict[str, Any]
OLD = event_schemas()[RUN_COMPLETED]
CARD = event_schemas()["meterstream.rate-card.published.v1"]


def data(schema: Schema) -> Schema:
    """Return the part of a schema that describes `data`."""
    found: Schema = schema["$defs"]["RunCompletedData"]
    return found


def fields(schema: Schema) -> Schema:
    """Return the fields of `data`."""
    found: Schema = data(schema)["properties"]
    return found


def tags(schema: Schema) -> Schema:
    """Return what is said of tags, when there are any."""
    found: Schema = fields(schema)["tags"]["anyOf"][0]
    return found


def changed(change: Callable[[Schema], object], schema: Schema = OLD) -> Schema:
    """Return the schema with a change."""
    new = deepcopy(schema)
    change(new)
    return new


BREAKING: dict[str, Callable[[Schema], object]] = {
    "a fixed text is replaced by others": lambda s: fields(s).update(
        status={"type": "string", "pattern": "^x"}
    ),
    "a fixed text becomes too long": lambda s: fields(s).update(
        status={"type": "string", "maxLength": 6}
    ),
    "a field is removed": lambda s: fields(s).pop("model"),
    "a field is renamed": lambda s: fields(s).update(tokens_in=fields(s).pop("input_tokens")),
    "an optional field becomes required": lambda s: data(s)["required"].append("model"),
    "a new field is required": lambda s: (
        fields(s).update(region={"type": "string"}),
        data(s)["required"].append("region"),
    ),
    "a maximum falls": lambda s: fields(s)["input_tokens"].update(maximum=10),
    "a minimum rises": lambda s: fields(s)["input_tokens"].update(minimum=1),
    "a text gets shorter": lambda s: fields(s)["team_id"].update(maxLength=32),
    "a text gets a least length": lambda s: fields(s)["input"]["anyOf"][0].update(minLength=1),
    "fewer tags are allowed": lambda s: tags(s).update(maxProperties=5),
    "the names of tags get shorter": lambda s: fields(s)["tags"]["anyOf"][0][
        "propertyNames"
    ].update(maxLength=5),
    "the values of tags get shorter": lambda s: fields(s)["tags"]["anyOf"][0][
        "additionalProperties"
    ].update(maxLength=5),
    "null is no longer allowed": lambda s: fields(s)["user_id"]["anyOf"].pop(),
    "a type changes": lambda s: fields(s)["input_tokens"].update(type="number"),
    "an enum loses a value": lambda s: fields(s)["operation"]["enum"].remove("feature"),
    "an enum's value is renamed": lambda s: fields(s)["status"].update(
        enum=["done", "failed", "cancelled"]
    ),
    "text becomes an enum": lambda s: fields(s)["team_id"].update(enum=["a"]),
    "a default changes": lambda s: fields(s)["input_tokens"].update(default=1),
    "a default goes": lambda s: fields(s)["input_tokens"].pop("default"),
    "a pattern is added": lambda s: fields(s)["input"]["anyOf"][0].update(pattern="^a"),
    "a pattern changes": lambda s: fields(s)["team_id"].update(pattern="^[a-z]*$"),
    "a format is added": lambda s: fields(s)["run_id"].update(format="uuid"),
    "the version changes": lambda s: s["properties"]["type"].update(const="x.v2"),
    "extension attributes are refused": lambda s: s.update(additionalProperties=False),
}

HARMLESS: dict[str, Callable[[Schema], object]] = {
    "nothing changes": lambda s: s,
    "an optional field is added": lambda s: fields(s).update(region={"type": "string"}),
    "a maximum rises": lambda s: fields(s)["input_tokens"].update(maximum=2**40),
    "a minimum falls": lambda s: fields(s)["input_tokens"].update(minimum=-1),
    "a text may be longer": lambda s: fields(s)["team_id"].update(maxLength=128),
    "a bound goes": lambda s: fields(s)["team_id"].pop("maxLength"),
    "a pattern goes": lambda s: fields(s)["team_id"].pop("pattern"),
    "an enum gets a value": lambda s: fields(s)["operation"]["enum"].append("batch"),
    "a required field becomes optional": lambda s: data(s)["required"].remove("run_id"),
    "null is allowed too": lambda s: fields(s).update(
        run_id={"anyOf": [fields(s)["run_id"], {"type": "null"}]}
    ),
    "a fixed text becomes one of many": lambda s: fields(s).update(
        status={"type": "string", "pattern": "^[a-z]*$", "maxLength": 9}
    ),
    "a description changes": lambda s: data(s).update(description="In other words."),
    "unknown fields are allowed": lambda s: data(s).pop("additionalProperties"),
}


@pytest.mark.parametrize("change", BREAKING.values(), ids=BREAKING)
def test_breaking_changes_are_caught(change: Callable[[Schema], object]) -> None:
    """A change that would refuse, or read otherwise, what producers send today is named."""
    assert breaking_changes(OLD, changed(change))


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_harmless_changes_pass(change: Callable[[Schema], object]) -> None:
    """A change that takes all that was taken, with the same meaning, passes."""
    assert breaking_changes(OLD, changed(change)) == []


def test_arrays_are_compared_item_by_item() -> None:
    """A field that goes from the lines of a rate card is noticed, and so are fewer lines."""
    lines = "RateCardPublishedData"
    gone = changed(lambda s: s["$defs"]["PriceLine"]["properties"].pop("model"), CARD)
    fewer = changed(lambda s: s["$defs"][lines]["properties"]["prices"].update(maxItems=3), CARD)
    assert breaking_changes(CARD, gone) == ["data.prices[].model: removed or renamed"]
    assert breaking_changes(CARD, fewer) == ["data.prices: maxItems fell from 500 to 3"]


def test_consumers_rely_on_more() -> None:
    """Of what we publish, no value or form may be new, and what was always there stays there."""
    more = changed(HARMLESS["an enum gets a value"])
    free = changed(HARMLESS["a fixed text becomes one of many"])
    absent = changed(HARMLESS["a required field becomes optional"])
    null = changed(HARMLESS["null is allowed too"])
    assert breaking_changes(OLD, more, outgoing=True) == [
        "data.operation: consumers do not know ['batch']"
    ]
    assert breaking_changes(OLD, free, outgoing=True)
    assert breaking_changes(OLD, absent, outgoing=True) == ["data.run_id: no longer always there"]
    assert breaking_changes(OLD, null, outgoing=True) == [
        "data.run_id: consumers do not know all of its forms"
    ]


def test_messages_name_the_field_and_the_change() -> None:
    """A message says which field changed from what to what."""
    change = changed(BREAKING["a maximum falls"])
    assert breaking_changes(OLD, change) == [
        "data.input_tokens: maximum fell from 1000000000 to 10"
    ]
