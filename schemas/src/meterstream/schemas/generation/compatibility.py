"""Whether a schema keeps the promises of the one before it.

What producers send today must be accepted tomorrow, and must mean the same; and of what we
publish, consumers may rely on every field and every value they were told of. A change that does
not fit makes a new version of the event type.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from meterstream.schemas.registry import MODELS
from meterstream.schemas.topics import THRESHOLDS

from .json_schema import STATE_RECORDS, JsonSchema

OUTGOING: Final = frozenset({*MODELS[THRESHOLDS], *STATE_RECORDS})
"""What we publish: here consumers rely on the schema, elsewhere producers do."""

_AT_LEAST: Final = ("minimum", "minLength", "minItems", "minProperties")
_AT_MOST: Final = ("maximum", "maxLength", "maxItems", "maxProperties")
_MEANING: Final = ("default", "const", "pattern", "format")


def breaking_changes(old: JsonSchema, new: JsonSchema, *, outgoing: bool = False) -> list[str]:
    """Return what in `new` breaks a promise of `old`, one line a change; empty if nothing does.

    `outgoing` says that we write such records and others read them.
    """
    return list(_Comparison(old, new, outgoing).changes("", old, new))


class _Comparison:
    def __init__(self, old: JsonSchema, new: JsonSchema, outgoing: bool) -> None:
        self._old_definitions = old.get("$defs", {})
        self._new_definitions = new.get("$defs", {})
        self._outgoing = outgoing

    def changes(self, path: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
        old = _resolve(old, self._old_definitions)
        new = _resolve(new, self._new_definitions)
        if "anyOf" in old or "anyOf" in new:
            yield from self._branch_changes(path, old, new)
            yield from _meaning_changes(path, old, new, ("default",))
            return
        where = path or "the event"
        if old.get("type") != new.get("type"):
            yield f"{where}: type {old.get('type')} became {new.get('type')}"
            return
        if _is_opened(old, new) and not self._outgoing:
            yield from _refused_values(where, old, new)
            return
        yield from _bound_changes(where, old, new)
        yield from _meaning_changes(where, old, new, _MEANING)
        yield from self._enum_changes(where, old, new)
        if "properties" in old or "properties" in new:
            yield from self._field_changes(path, old, new)
        for key, suffix in (("items", "[]"), ("additionalProperties", "{}"), ("propertyNames", "")):
            yield from self._inner_changes(f"{path}{suffix}", key, old, new)

    def _inner_changes(
        self, path: str, key: str, old: JsonSchema, new: JsonSchema
    ) -> Iterator[str]:
        before, after = old.get(key, True), new.get(key, True)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from self.changes(path, before, after)
        elif before is not False and after is not True and before != after:
            yield f"{path or 'the event'}: {key} became stricter"

    def _branch_changes(self, path: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
        """Each form that was allowed must still be allowed as it was.

        A form that consumers were not told of breaks theirs.
        """
        before, after = old.get("anyOf", [old]), new.get("anyOf", [new])
        if self._outgoing and len(after) > len(before):
            yield f"{path or 'the event'}: consumers do not know all of its forms"
        for branch in before:
            attempts = [list(self.changes(path, branch, candidate)) for candidate in after]
            if [] not in attempts:
                yield from min(attempts, key=lambda changes: "type" in changes[0])

    def _field_changes(self, path: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
        for name, field in before.items():
            inner = f"{path}.{name}".lstrip(".")
            if name not in after:
                yield f"{inner}: removed or renamed"
                continue
            if self._outgoing and name in required_before - required_after:
                yield f"{inner}: no longer always there"
            yield from self.changes(inner, field, after[name])
        for name in sorted(required_after - required_before):
            yield f"{path}.{name}: required now".lstrip(".")

    def _enum_changes(self, where: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
        before, after = _values(old), _values(new)
        if before is None and after is not None:
            yield f"{where}: only some values are allowed now"
        elif before is not None and after is None and self._outgoing:
            yield f"{where}: consumers know {before} only"
        elif before is not None and after is not None:
            if gone := [value for value in before if value not in after]:
                yield f"{where}: {gone} are no longer allowed"
            if self._outgoing and (added := [value for value in after if value not in before]):
                yield f"{where}: consumers do not know {added}"


def _resolve(schema: JsonSchema, definitions: dict[str, Any]) -> JsonSchema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    resolved: JsonSchema = definitions[reference.rsplit("/", 1)[-1]]
    return resolved


def _is_opened(old: JsonSchema, new: JsonSchema) -> bool:
    """Tell whether a text of a few fixed values became a text of many."""
    return old.get("type") == "string" and _fixed(old) is not None and _fixed(new) is None


def _refused_values(where: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
    low, high = new.get("minLength", 0), new.get("maxLength", float("inf"))
    for value in _fixed(old) or ():
        if not low <= len(value) <= high or not re.search(new.get("pattern", ""), value):
            yield f"{where}: {value!r} is no longer allowed"
    yield from _meaning_changes(where, old, new, ("default", "format"))


def _fixed(schema: JsonSchema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else _values(schema)


def _values(schema: JsonSchema) -> list[Any] | None:
    values: list[Any] | None = schema.get("enum")
    return values


def _bound_changes(where: str, old: JsonSchema, new: JsonSchema) -> Iterator[str]:
    for key in _AT_LEAST:
        if key in new and (key not in old or new[key] > old[key]):
            yield f"{where}: {key} rose from {old.get(key, 'none')} to {new[key]}"
    for key in _AT_MOST:
        if key in new and (key not in old or new[key] < old[key]):
            yield f"{where}: {key} fell from {old.get(key, 'none')} to {new[key]}"


def _meaning_changes(
    where: str, old: JsonSchema, new: JsonSchema, keys: tuple[str, ...]
) -> Iterator[str]:
    for key in keys:
        before, after = old.get(key), new.get(key)
        dropped_rule = key in ("pattern", "format") and after is None
        if before != after and not dropped_rule:
            yield f"{where}: {key} {before!r} became {after!r}"
