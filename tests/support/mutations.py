"""Ways in which events are broken: each kind with the verdict it must get, and random damage."""

import json
import random
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.verdicts import Verdict

Event = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """One way to break a valid completed run (most break any event)."""

    verdict: Verdict
    change: Callable[[Event], Event | bytes | None]
    path: str = ""
    """The field that the reason must name."""

    def apply(self, event: Event) -> bytes | None:
        """Return the bytes of the broken event; `event` itself stays as it is."""
        broken = self.change(deepcopy(event))
        if isinstance(broken, dict):
            return json.dumps(broken, ensure_ascii=False).encode()
        return broken


def _set(*path: str, to: object) -> Callable[[Event], Event]:
    def change(event: Event) -> Event:
        target = event
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = to
        return event

    return change


def _drop(*path: str) -> Callable[[Event], Event]:
    def change(event: Event) -> Event:
        target = event
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]
        return event

    return change


def _raw(change: Callable[[bytes], bytes | None]) -> Callable[[Event], bytes | None]:
    return lambda event: change(json.dumps(event).encode())


def _ext(raw: bytes) -> Callable[[Event], bytes | None]:
    """Put raw JSON (or what should be JSON) into an extension attribute."""
    return _raw(lambda value: b'{"ext":' + raw + b"," + value[1:])


V = Verdict
MUTATIONS: dict[str, Mutation] = {
    "null value": Mutation(V.NULL_VALUE, lambda _: None),
    "no bytes": Mutation(V.EMPTY, lambda _: b""),
    "too large": Mutation(V.TOO_LARGE, _raw(lambda v: v + b" " * MAX_EVENT_BYTES)),
    "latin-1": Mutation(V.NOT_UTF8, _raw(lambda v: v[:-1] + b',"e":"\xe9"}')),
    "latin-1 in a name": Mutation(V.NOT_UTF8, _raw(lambda v: v[:-1] + b',"\xe9":1}')),
    "surrogate bytes": Mutation(V.NOT_UTF8, _raw(lambda v: v[:-1] + b',"e":"\xed\xa0\x80"}')),
    "white space": Mutation(V.NOT_JSON, lambda _: b"  \n"),
    "cut short": Mutation(V.NOT_JSON, _raw(lambda v: v[: len(v) // 2])),
    "trailing data": Mutation(V.NOT_JSON, _raw(lambda v: v + b"{}")),
    "two lines": Mutation(V.NOT_JSON, _raw(lambda v: v + b"\n" + v)),
    "byte order mark": Mutation(V.NOT_JSON, _raw(lambda v: b"\xef\xbb\xbf" + v)),
    "raw newline": Mutation(V.NOT_JSON, _raw(lambda v: v.replace(b'"id": "', b'"id": "\n'))),
    "single quotes": Mutation(V.NOT_JSON, _raw(lambda v: v.replace(b'"', b"'"))),
    "trailing comma": Mutation(V.NOT_JSON, _raw(lambda v: v[:-1] + b",}")),
    "NaN": Mutation(V.NOT_JSON, _ext(b"NaN")),
    "minus infinity": Mutation(V.NOT_JSON, _ext(b"-Infinity")),
    "leading zero": Mutation(V.NOT_JSON, _ext(b"01")),
    "half a pair": Mutation(V.NOT_JSON, _ext(b'"\\ud800"')),
    "half a pair in a name": Mutation(V.NOT_JSON, _ext(b'{"\\udc00":1}')),
    "deep": Mutation(V.NOT_JSON, _ext(b"[" * 70 + b"]" * 70)),
    "very deep": Mutation(V.NOT_JSON, _ext(b"[" * 30_000 + b"]" * 30_000)),
    "an array": Mutation(V.NOT_AN_OBJECT, lambda _: b"[1]"),
    "a number": Mutation(V.NOT_AN_OBJECT, lambda _: b"17"),
    "null": Mutation(V.NOT_AN_OBJECT, lambda _: b"null"),
    "no specversion": Mutation(V.MISSING_FIELD, _drop("specversion"), "specversion"),
    "specversion 0.3": Mutation(
        V.UNKNOWN_SPECVERSION, _set("specversion", to="0.3"), "specversion"
    ),
    "specversion 1.0 as a number": Mutation(
        V.WRONG_TYPE, _set("specversion", to=1.0), "specversion"
    ),
    "no type": Mutation(V.MISSING_FIELD, _drop("type"), "type"),
    "type as a number": Mutation(V.WRONG_TYPE, _set("type", to=1), "type"),
    "type of version 2": Mutation(
        V.UNKNOWN_TYPE, _set("type", to="meterstream.run.completed.v2"), "type"
    ),
    "type of another topic": Mutation(
        V.UNKNOWN_TYPE, _set("type", to="meterstream.team.registered.v1"), "type"
    ),
    "no id": Mutation(V.MISSING_FIELD, _drop("id"), "id"),
    "no source": Mutation(V.MISSING_FIELD, _drop("source"), "source"),
    "no time": Mutation(V.MISSING_FIELD, _drop("time"), "time"),
    "no data": Mutation(V.MISSING_FIELD, _drop("data"), "data"),
    "data null": Mutation(V.WRONG_TYPE, _set("data", to=None), "data"),
    "content that is no JSON": Mutation(
        V.INVALID_TEXT, _set("datacontenttype", to="application/xml"), "datacontenttype"
    ),
    "content type as a number": Mutation(
        V.WRONG_TYPE, _set("datacontenttype", to=1), "datacontenttype"
    ),
    "data in base 64": Mutation(V.WRONG_TYPE, _set("data", to="e30="), "data"),
    "id as a number": Mutation(V.WRONG_TYPE, _set("id", to=7), "id"),
    "empty id": Mutation(V.OUT_OF_RANGE, _set("id", to=""), "id"),
    "long id": Mutation(V.OUT_OF_RANGE, _set("id", to="é" * 129), "id"),
    "control character in id": Mutation(V.INVALID_TEXT, _set("id", to="a\x00b"), "id"),
    "delete in source": Mutation(V.INVALID_TEXT, _set("source", to="a\x7fb"), "source"),
    "C1 control in source": Mutation(V.INVALID_TEXT, _set("source", to="a\x85b"), "source"),
    "time without offset": Mutation(V.INVALID_TIME, _set("time", to="2026-01-01T00:00:00"), "time"),
    "leap second": Mutation(V.INVALID_TIME, _set("time", to="2026-01-01T00:00:60Z"), "time"),
    "30 February": Mutation(V.INVALID_TIME, _set("time", to="2026-02-30T00:00:00Z"), "time"),
    "before the calendar": Mutation(
        V.INVALID_TIME, _set("time", to="0001-01-01T00:00:00+00:01"), "time"
    ),
    "after the calendar": Mutation(
        V.INVALID_TIME, _set("time", to="9999-12-31T23:59:59-00:01"), "time"
    ),
    "time as a number": Mutation(V.WRONG_TYPE, _set("time", to=1_767_225_600), "time"),
    "no team": Mutation(V.MISSING_FIELD, _drop("data", "team_id"), "data.team_id"),
    "team null": Mutation(V.WRONG_TYPE, _set("data", "team_id", to=None), "data.team_id"),
    "long team": Mutation(V.OUT_OF_RANGE, _set("data", "team_id", to="t" * 65), "data.team_id"),
    "misspelt field": Mutation(V.UNKNOWN_FIELD, _set("data", "input_token", to=5), "data"),
    "user as a list": Mutation(V.WRONG_TYPE, _set("data", "user_id", to=["u"]), "data.user_id"),
}
"""By name: broken in one way each, so the verdict is certain. They break any event."""

RUN_MUTATIONS: dict[str, Mutation] = {
    "no status": Mutation(V.MISSING_FIELD, _drop("data", "status"), "data.status"),
    "unknown status": Mutation(V.OUT_OF_RANGE, _set("data", "status", to="done"), "data.status"),
    "status as a number": Mutation(V.WRONG_TYPE, _set("data", "status", to=0), "data.status"),
    "negative tokens": Mutation(
        V.OUT_OF_RANGE, _set("data", "input_tokens", to=-1), "data.input_tokens"
    ),
    "tokens over 64 bits": Mutation(
        V.OUT_OF_RANGE, _set("data", "input_tokens", to=2**64 + 1), "data.input_tokens"
    ),
    "tokens of thousands of digits": Mutation(
        V.OUT_OF_RANGE,
        lambda event: (
            json.dumps(event | {"data": event["data"] | {"input_tokens": 0}})
            .replace('"input_tokens": 0', '"input_tokens": ' + "9" * 5_000)
            .encode()
        ),
        "data.input_tokens",
    ),
    "tokens as text": Mutation(
        V.WRONG_TYPE, _set("data", "input_tokens", to="5"), "data.input_tokens"
    ),
    "tokens with a point": Mutation(
        V.WRONG_TYPE, _set("data", "output_tokens", to=5.0), "data.output_tokens"
    ),
    "tokens true": Mutation(
        V.WRONG_TYPE, _set("data", "output_tokens", to=True), "data.output_tokens"
    ),
    "tokens null": Mutation(
        V.WRONG_TYPE, _set("data", "output_tokens", to=None), "data.output_tokens"
    ),
    "credits over a million": Mutation(
        V.OUT_OF_RANGE, _set("data", "credits_micro", to=10**12 + 1), "data.credits_micro"
    ),
    "negative latency": Mutation(
        V.OUT_OF_RANGE, _set("data", "latency_us", to=-1), "data.latency_us"
    ),
    "eleven tags": Mutation(
        V.OUT_OF_RANGE, _set("data", "tags", to={str(i): "" for i in range(11)}), "data.tags"
    ),
    "tag as a number": Mutation(V.WRONG_TYPE, _set("data", "tags", to={"secret": 1}), "data.tags"),
    "tag without a name": Mutation(V.OUT_OF_RANGE, _set("data", "tags", to={"": "x"}), "data.tags"),
    "newline in a tag": Mutation(
        V.INVALID_TEXT, _set("data", "tags", to={"k": "a\nb"}), "data.tags"
    ),
    "large quantity": Mutation(
        V.OUT_OF_RANGE, _set("data", "quantities", to={"q": 2**53}), "data.quantities"
    ),
    "more cached than input": Mutation(
        V.INCONSISTENT,
        lambda event: event | {"data": event["data"] | {"input_tokens": 1, "cached_tokens": 2}},
        "data",
    ),
    "more reasoning than output": Mutation(
        V.INCONSISTENT,
        lambda event: event | {"data": event["data"] | {"output_tokens": 1, "reasoning_tokens": 2}},
        "data",
    ),
    "first token after the last": Mutation(
        V.INCONSISTENT,
        lambda event: (
            event | {"data": event["data"] | {"latency_us": 1, "time_to_first_token_us": 2}}
        ),
        "data",
    ),
    "ends at another time": Mutation(
        V.INCONSISTENT,
        lambda event: (
            event
            | {
                "time": "2026-01-01T00:05:00.000001Z",
                "data": event["data"]
                | {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"},
            }
        ),
        "time and",
    ),
    "ends before it starts": Mutation(
        V.INCONSISTENT,
        lambda event: (
            event
            | {
                "data": event["data"]
                | {
                    "started_at": "2026-01-01T00:00:00.000001Z",
                    "ended_at": "2026-01-01T00:00:00Z",
                }
            }
        ),
        "data",
    ),
    "lasts over a week": Mutation(
        V.INCONSISTENT,
        lambda event: (
            event
            | {
                "data": event["data"]
                | {
                    "started_at": "2026-01-01T00:00:00Z",
                    "ended_at": "2026-01-08T00:00:00.000001Z",
                }
            }
        ),
    ),
}
"""As MUTATIONS, but for completed runs only."""

JSON_CONTENT_TYPES = (
    None,
    "application/json",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'Application/JSON ; charset=utf-8; profile="a b"',
)
OTHER_CONTENT_TYPES = (
    "", "application/xml", "text/json", "application/json5", "application/ld+json",
    "application/json;", "application/json; charset", "application/json charset=utf-8",
    "application/json; charset=utf-8\n", "application/json\n", " application/json",
    'application/json; a="b\x7f"', "application/json; chärset=utf-8",
)  # fmt: skip

_ODD_TOKENS = (
    b"null", b"true", b"-0", b"0.0", b"1e3", b"-1", b"18446744073709551616", b'""', b'"\\u0000"',
    b'"\\ud83d\\ude00"', b'"\\ud83d"', b"[]", b"{}", b'"2026-01-01t00:00:00.1234565z"',
    b'"2026-01-01T00:00:00+0530"', b'"0001-01-01T00:00:00+23:59"', b'"\xc2\x85"', b'"\x7f"',
    b'"\xef\xbf\xbf"', b'"a\\/b"', b'"\xe2\x80\xa8"',
)  # fmt: skip
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+|true|false|null')
_ODD_BYTES = b'{}[]",:\\ \n\t\x00\xff\xc3u0e.-'


def scramble(value: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some random damage, which may happen to do no harm."""
    kind = rng.randrange(6)
    at = rng.randrange(len(value))
    if kind == 0:
        return value[:at] + bytes([rng.choice(_ODD_BYTES)]) + value[at:]
    if kind == 1:
        return value[:at] + bytes([rng.choice(_ODD_BYTES)]) + value[at + 1 :]
    if kind == 2:
        return value[:at] + value[at + rng.randint(1, 4) :]
    tokens = list(_TOKEN.finditer(value))
    token = rng.choice(tokens)
    if kind == 3:
        return value[: token.start()] + rng.choice(_ODD_TOKENS) + value[token.end() :]
    if kind == 4:  # say a field twice, with another value
        other = rng.choice(_ODD_TOKENS)
        names = [t for t in tokens if value[t.end() : t.end() + 1] == b":"]
        name = rng.choice(names)
        again = value[name.start() : name.end()] + b":" + other + b","
        return value[: name.start()] + again + value[name.start() :]
    extra = b'"' + rng.choice((b"ext", b"\\u0069d", b"team_id", b"e\xcc\x81")) + b'":'
    return b"{" + extra + rng.choice(_ODD_TOKENS) + b"," + value[1:]
