"""From a model's validation error to one verdict and a sentence that gives nothing away."""

from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .verdicts import Verdict

_BY_ERROR: Final = {
    "missing": Verdict.MISSING_FIELD,
    "extra_forbidden": Verdict.UNKNOWN_FIELD,
    "invalid_time": Verdict.INVALID_TIME,
    "invalid_text": Verdict.INVALID_TEXT,
    "string_pattern_mismatch": Verdict.INVALID_TEXT,
    "inconsistent": Verdict.INCONSISTENT,
    "wrong_type": Verdict.WRONG_TYPE,
    "greater_than_equal": Verdict.OUT_OF_RANGE,
    "less_than_equal": Verdict.OUT_OF_RANGE,
    "string_too_short": Verdict.OUT_OF_RANGE,
    "string_too_long": Verdict.OUT_OF_RANGE,
    "too_long": Verdict.OUT_OF_RANGE,
    "literal_error": Verdict.OUT_OF_RANGE,
    "uuid_parsing": Verdict.INVALID_TEXT,
}

_EXPECTED: Final = {
    "missing": "required",
    "extra_forbidden": "a field that the contract does not name; is one misspelt?",
    "greater_than_equal": "{ge} or more is expected",
    "less_than_equal": "{le} or less is expected",
    "string_too_short": "{min_length} or more characters are expected",
    "string_too_long": "{max_length} characters at most are expected",
    "too_long": "{max_length} entries at most are expected",
    "literal_error": "one of {expected} is expected",
    "string_type": "text is expected",
    "int_type": "an integer is expected",
    "bool_type": "true or false is expected",
    "dict_type": "an object is expected",
    "model_type": "an object is expected",
    "model_attributes_type": "an object is expected",
    "tuple_type": "an array is expected",
    "string_pattern_mismatch": "text of another form is expected: {pattern}",
    "uuid_parsing": "a UUID is expected",
}

_OWN: Final = frozenset({"invalid_time", "invalid_text", "inconsistent", "wrong_type"})
"""Errors of our own validators, whose messages quote nothing."""


def describe(model: type[BaseModel], error: ValidationError) -> tuple[Verdict, str]:
    """Return the verdict on the first thing that is wrong, and what was expected where.

    The order is the models' own: fields as they are declared, then unknown ones, then rules that
    concern several fields.
    """
    first = error.errors(include_url=False)[0]
    return _verdict(first), _sentence(model, first)


def describe_all(
    model: type[BaseModel], error: ValidationError
) -> list[tuple[tuple[int | str, ...], str]]:
    """Return everything that is wrong: where in the data, and what `describe` says of it."""
    return [(each["loc"], _sentence(model, each)) for each in error.errors(include_url=False)]


def _sentence(model: type[BaseModel], error: ErrorDetails) -> str:
    path = _path(model, error["loc"], unknown=_verdict(error) is Verdict.UNKNOWN_FIELD)
    return f"{path}: {_expected(error)}" if path else _expected(error)


def _verdict(error: ErrorDetails) -> Verdict:
    if error["type"] == "literal_error" and not isinstance(error["input"], str):
        return Verdict.WRONG_TYPE
    return _BY_ERROR.get(error["type"], Verdict.WRONG_TYPE)


def _expected(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind in _OWN:
        return error["msg"]
    return _EXPECTED.get(kind, "another type is expected").format(**error.get("ctx", {}))


def _path(model: type[BaseModel], loc: tuple[int | str, ...], unknown: bool) -> str:
    """Return the declared names on the way to the error; keys of maps are the sender's words."""
    parts: list[str] = []
    fields: Any = model.model_fields
    for step in loc[:-1] if unknown else loc:
        if isinstance(step, int):
            parts[-1] += f"[{step}]"
        elif step in fields:
            parts.append(step)
            fields = _nested_fields(fields[step].annotation)
        else:
            parts[-1] += "[...]"
            break
    return ".".join(parts)


def _nested_fields(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields
    for argument in getattr(annotation, "__args__", ()):
        if fields := _nested_fields(argument):
            return fields
    return {}
