"""Events that must be refused, each for one reason, so that one sees that they are."""

import json
from collections.abc import Callable
from typing import Final

from .runs import Run, encode

Break = Callable[[dict[str, object], dict[str, object]], bytes]


def _not_json(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode(event)[:-2]


def _not_an_object(event: dict[str, object], data: dict[str, object]) -> bytes:
    return b"[" + encode(event) + b"]"


def _empty(event: dict[str, object], data: dict[str, object]) -> bytes:
    return b""


def _unknown_type(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "type": "meterstream.run.completed.v99"})


def _missing_field(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "data": {k: v for k, v in data.items() if k != "status"}})


def _unknown_field(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "data": {**data, "imput_tokens": 7}})


def _wrong_type(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "data": {**data, "input_tokens": "many"}})


def _out_of_range(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "data": {**data, "output_tokens": -1}})


def _invalid_time(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "time": "yesterday"})


def _inconsistent(event: dict[str, object], data: dict[str, object]) -> bytes:
    return encode({**event, "data": {**data, "input_tokens": 1, "cached_tokens": 2}})


BREAKS: Final[dict[str, Break]] = {
    "not_json": _not_json,
    "not_an_object": _not_an_object,
    "empty": _empty,
    "unknown_type": _unknown_type,
    "missing_field": _missing_field,
    "unknown_field": _unknown_field,
    "wrong_type": _wrong_type,
    "out_of_range": _out_of_range,
    "invalid_time": _invalid_time,
    "inconsistent": _inconsistent,
}
"""By the reason, as the dead-letter queue names it: what breaks a good event that way."""


def break_run(run: Run, number: int) -> bytes:
    """Return the bytes of a good run broken in the way of that number; ways follow in turn."""
    event = json.loads(run.value)
    ways = tuple(BREAKS.values())
    return ways[number % len(ways)](event, event["data"])
