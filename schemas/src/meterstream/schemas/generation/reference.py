"""The reference page of all events, `docs/events.md`: fields, units, bounds."""

from collections.abc import Iterator
from typing import Any, Final

from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.registry import MAX_DEPTH, MODELS
from meterstream.schemas.topics import BY_NAME, LIMIT_STATES

from .json_schema import STATE_RECORDS, JsonSchema, event_schemas

_UNITS: Final = (
    ("_micro_per_1k", "micro-credits for 1,000 tokens"),
    ("_micro_per_mb", "micro-credits for 1,000,000 bytes"),
    ("_micro_per_second", "micro-credits a second"),
    ("_micro", "micro-credits (millionths of a credit)"),
    ("_us", "microseconds"),
    ("_permille", "thousandths"),
    ("_tokens", "tokens"),
    ("_bytes", "bytes"),
    ("_days", "days"),
)
"""Endings of field names, longest first, and the units they stand for."""

_HEAD: Final = """# Events

Generated from the models in `schemas/` by `python -m meterstream.schemas.generate`; do not edit.

Every event is a CloudEvents 1.0 event in structured JSON mode: UTF-8, at most {max_bytes:,} bytes,
nested at most {max_depth} levels deep. Extension attributes are allowed and ignored; a field of
`data` that is not in this list is refused, since a misspelt one would drop usage that somebody
pays for. What Meterstream itself tells (topics `thresholds` and `limit-states`) may get more
fields: ignore those that you do not know. An optional field may be absent, and one without a
default may be `null`. Times are RFC 3339 with an offset and are kept to the microsecond. Lengths
count Unicode characters; names hold no control characters.
"""


def reference() -> str:
    """Return the page as Markdown."""
    schemas = event_schemas()
    parts = [_HEAD.format(max_bytes=MAX_EVENT_BYTES, max_depth=MAX_DEPTH), _envelope(schemas)]
    for topic, models in MODELS.items():
        parts.append(f"\n## Topic `{topic}`: {BY_NAME[topic].purpose}\n")
        parts.extend(_event(name, schemas[name]) for name in models)
    parts.append(f"\n## Topic `{LIMIT_STATES}`: {BY_NAME[LIMIT_STATES].purpose}\n")
    parts.extend(_section(name, schemas[name], schemas[name]) for name in STATE_RECORDS)
    return "".join(parts)


def _envelope(schemas: dict[str, JsonSchema]) -> str:
    schema = dict(next(iter(schemas.values())))
    schema["properties"] = {
        name: {"type": "string", "description": "the event's type, with its version"}
        if name == "type"
        else field
        for name, field in schema["properties"].items()
        if name != "data"
    }
    return "\n## Envelope\n\n" + _table(schema, {})


def _event(name: str, schema: JsonSchema) -> str:
    data = schema["$defs"][schema["properties"]["data"]["$ref"].rsplit("/", 1)[-1]]
    return _section(name, data, schema)


def _section(name: str, data: JsonSchema, schema: JsonSchema) -> str:
    description = data["description"].replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
    return f"\n### `{name}`\n\n{description}\n\n" + _table(data, schema["$defs"])


def _table(schema: JsonSchema, definitions: dict[str, JsonSchema]) -> str:
    lines = ["| field | | type and bounds | unit |", "|---|---|---|---|"]
    lines += (
        f"| `{path}` | {'required' if required else ''} | {kind} | {_unit(path)} |"
        for path, required, kind in _rows(schema, definitions, "")
    )
    return "\n".join(lines) + "\n"


def _rows(
    schema: JsonSchema, definitions: dict[str, JsonSchema], prefix: str
) -> Iterator[tuple[str, bool, str]]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        plain = _without_null(field)
        inner = _definition(plain, definitions) or _definition(plain.get("items", {}), definitions)
        yield f"{prefix}{name}", name in required, _kind(plain, inner is not None)
        if inner is not None:
            dots = f"{prefix}{name}[]." if "items" in plain else f"{prefix}{name}."
            yield from _rows(inner, definitions, dots)


def _definition(field: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema | None:
    reference_to = field.get("$ref")
    return None if reference_to is None else definitions[reference_to.rsplit("/", 1)[-1]]


def _without_null(field: JsonSchema) -> JsonSchema:
    branches = [branch for branch in field.get("anyOf", ()) if branch.get("type") != "null"]
    return {**field, **branches[0]} if len(branches) == 1 else field


def _kind(field: JsonSchema, nested: bool) -> str:
    text = _bare_kind(field, nested)
    if "default" in field and field["default"] not in (None, {}, []):
        text += f"; default {_value(field['default'])}"
    return text


def _bare_kind(field: JsonSchema, nested: bool) -> str:
    if "const" in field or "enum" in field:
        return ", ".join(_value(value) for value in field.get("enum", [field.get("const")]))
    match field.get("type"):
        case "string":
            return _text(field)
        case "integer":
            return f"integer, {field['minimum']:,} to {field['maximum']:,}"
        case "array":
            items = "objects" if nested else f"array of {_bare_kind(field['items'], nested)}"
            return f"{items}, at most {field['maxItems']}"
        case "object":
            values = _bare_kind(field["additionalProperties"], nested)
            return f"object of {values}; at most {field['maxProperties']} entries"
        case "boolean":
            return "true or false"
    return "object"


def _text(field: JsonSchema) -> str:
    if "description" in field and "maxLength" in field:
        return str(field["description"])
    if "format" in field:
        return {"date-time": "time", "uuid": "UUID"}[field["format"]]
    if "maxLength" not in field:
        return f"text, `{field['pattern']}`" if "pattern" in field else field["description"]
    return f"text, {field.get('minLength', 0)} to {field['maxLength']:,} characters"


def _value(value: Any) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _unit(path: str) -> str:
    name = path.rsplit(".", 1)[-1]
    if name.endswith("multiplier_permille"):
        return "thousandths: 1000 leaves the price as it is"
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")
