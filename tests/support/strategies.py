"""Hypothesis strategies for events: every field of every type, made from the JSON Schemas.

What JSON Schema cannot say (an end after its start, parts within wholes) is mended afterwards.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from meterstream.schemas import catalog, control, organisations, run
from meterstream.schemas.fields import JSON_MEDIA_TYPE
from meterstream.schemas.generation.json_schema import event_schemas
from meterstream.schemas.times import format_rfc3339, from_us, parse_rfc3339, to_us

Event = dict[str, Any]

SCHEMAS = event_schemas()
_PLAIN = st.characters(exclude_categories=["Cs", "Cc"])
_ANY = st.characters(exclude_categories=["Cs"])
_ZONES = st.sampled_from(("Europe/Berlin", "America/Argentina/Ushuaia", "UTC", "Asia/Kolkata"))
_MOMENTS = st.integers(0, 2 * 86_400_000_000).map(
    lambda us: datetime(2025, 12, 31, tzinfo=UTC) + timedelta(microseconds=us)
)
_BY_PATTERN = {
    r"^[A-Z]{3}$": st.sampled_from(("EUR", "USD")),
    f"^{JSON_MEDIA_TYPE}$": st.sampled_from(
        ("application/json", "Application/JSON;charset=UTF-8", 'application/json ; a="b c"; d=e')
    ),
    r"^[^@\s]+@[^@\s]+$": st.sampled_from(("a@example.org", "ü@example.org")),
}


def events(event_type: str) -> SearchStrategy[Event]:
    """Return valid events of a type, as they travel: JSON objects."""
    return _values(SCHEMAS[event_type], SCHEMAS[event_type]["$defs"]).map(_mended)


def _values(schema: Event, definitions: Event) -> SearchStrategy[Any]:
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in schema:
        return st.one_of(*(_values(branch, definitions) for branch in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    return _PLAIN_VALUES[schema["type"]](schema, definitions)


def _texts(schema: Event) -> SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return _MOMENTS.map(format_rfc3339)
    if schema.get("format") == "uuid":
        return st.uuids().map(str)
    pattern = schema.get("pattern", "")
    if pattern in _BY_PATTERN:
        return _BY_PATTERN[pattern]
    if pattern.startswith("^[A-Za-z]"):
        return _ZONES
    low, high = schema.get("minLength", 0), schema["maxLength"]
    alphabet = _PLAIN if pattern else _ANY
    texts = st.text(alphabet, min_size=low, max_size=min(12, high))
    if high > 256:
        return texts
    return st.one_of(texts, st.sampled_from("aé😀").map(lambda letter: letter * high))


def _objects(schema: Event, definitions: Event) -> SearchStrategy[Event]:
    if "properties" not in schema:
        keys = _texts({"maxLength": 64, **schema["propertyNames"]})
        values = _values(schema["additionalProperties"], definitions)
        return st.dictionaries(keys, values, max_size=min(5, schema["maxProperties"]))
    fields = {name: _values(field, definitions) for name, field in schema["properties"].items()}
    required = schema.get("required", ())
    return st.fixed_dictionaries(
        {name: fields[name] for name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


_PLAIN_VALUES: dict[str, Callable[[Event, Event], SearchStrategy[Any]]] = {
    "null": lambda _, __: st.none(),
    "boolean": lambda _, __: st.booleans(),
    "integer": lambda schema, _: st.integers(schema["minimum"], schema["maximum"]),
    "string": lambda schema, _: _texts(schema),
    "array": lambda schema, definitions: st.lists(
        _values(schema["items"], definitions),
        min_size=schema.get("minItems", 0),
        max_size=min(4, schema["maxItems"]),
    ),
    "object": _objects,
}


def _mended(event: Event) -> Event:
    """Make the fields of an event agree with each other."""
    data = event["data"]
    for early, late in (
        ("valid_from", "valid_until"),
        ("starts_at", "ends_at"),
        ("time_from", "time_to"),
    ):
        if data.get(late) is not None:
            data[late] = _after(data[early], data[late])
    if event["type"] in (run.RUN_STARTED, run.RUN_COMPLETED):
        _mend_run(event, data)
    elif event["type"] == catalog.MEMBERSHIP_CHANGED:
        _keep_one_owner(data)
    elif event["type"] == catalog.RATE_CARD_PUBLISHED:
        _mend_card(data)
    elif event["type"] == catalog.ORGANISATION_REGISTERED:
        data["parent_id"] = f"{data['organisation_id'][:60]}-up"
    elif event["type"] == control.CREDITS_GRANTED:
        if data.get("refund_of") is not None:
            data["kind"] = "refund"
        if data.get("expires_at") is not None:
            data["expires_at"] = _after(event["time"], data["expires_at"])
        if data.get("starts_at") is not None and data.get("expires_at") is not None:
            data["expires_at"] = _after(data["starts_at"], data["expires_at"])
    elif event["type"] in (control.LIMIT_SET, control.LIMIT_REMOVED):
        _mend_limit(data)
    elif event["type"] == organisations.ORGANISATION_USED:
        _mend_uses(data)
    return event


def _mend_uses(data: Event) -> None:
    for use in data["uses"]:
        start_us = to_us(parse_rfc3339(use["quarter_start"]))
        use["quarter_start"] = format_rfc3339(
            from_us(start_us // organisations.QUARTER_US * organisations.QUARTER_US)
        )
        for measure in organisations.MEASURES if not data.get("corrects") else ():
            if use.get(measure) is not None:
                use[measure] = abs(use[measure])


def _mend_run(event: Event, data: Event) -> None:
    if data.get("ended_at") is not None:
        data["ended_at"] = _near(event["time"], data["ended_at"])
    ended_at = data.get("ended_at") or event["time"]
    if parse_rfc3339(ended_at) < parse_rfc3339(data["started_at"]):
        data["started_at"] = ended_at
    for part, whole in (("cached_tokens", "input_tokens"), ("reasoning_tokens", "output_tokens")):
        if part in data:
            data[part] = min(data[part], data.get(whole, 0))
    first_token_us, latency_us = data.get("time_to_first_token_us"), data.get("latency_us")
    if first_token_us is not None and latency_us is not None:
        data["time_to_first_token_us"] = min(first_token_us, latency_us)


def _mend_card(data: Event) -> None:
    data["currency"] = data.get("currency") or "EUR"
    sizes = data.setdefault("session_micro_per_second", {})
    for name in ("session_amount_micro_per_second", "session_cost_micro_per_second"):
        if name in data:
            data[name] = {size: price for size, price in data[name].items() if size in sizes}


def _mend_limit(data: Event) -> None:
    _keep_one_owner(data)
    if "subject" not in data:
        return
    of_organisation = data.get("organisation_id") is not None
    if of_organisation:
        data["subject"] = "organisation"
    elif data["subject"] == "organisation":
        data["subject"] = "team"
    if data["subject"] in ("team", "organisation"):
        data.pop("subject_id", None)
    elif data.get("subject_id") is None:
        data["subject_id"] = "somebody"
    if data["window"] == "balance":
        if data["subject"] == "team":
            data["measure"] = "credits"
            data.pop("enforcement", None)
        else:
            data["window"] = "month"
    if "alert_levels_permille" in data:
        data["alert_levels_permille"] = sorted(set(data["alert_levels_permille"]))


def _keep_one_owner(data: Event) -> None:
    if data.get("team_id") is not None:
        data.pop("organisation_id", None)
    elif data.get("organisation_id") is None:
        data["team_id"] = "t"


def _near(time: str, moment: str) -> str:
    around, tolerance = parse_rfc3339(time), timedelta(minutes=5)
    near = min(max(parse_rfc3339(moment), around - tolerance), around + tolerance)
    return format_rfc3339(near)


def _after(start: str, moment: str) -> str:
    later = parse_rfc3339(start) + timedelta(microseconds=1)
    return format_rfc3339(max(later, parse_rfc3339(moment)))


RFC3339_LIKE = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,12})?"
    r"([Zz]|[+-][0-2][0-9]:?[0-6][0-9])?"
)
"""What looks like a time, though it may be none."""
