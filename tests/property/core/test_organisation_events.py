"""The fast reading of what teams used, and the models that it stands for."""

import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.core.test_limits_of_a_log import a_few
from tests.support.organisations import Told

from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.topics import ORG_USAGE
from meterstream.streams.core.decode import Refused
from meterstream.streams.core.organisation_events import decode_usage

AT_US = 1_767_225_600_000_000
SOUND = Told("o-1", "t-1", "e-1", AT_US, ((AT_US, (5, 4, 3, 2, 1)),))

STRANGE: list[Any] = [
    None, True, -1, 0, 2**62, 1.5, "", "x" * 65, "x\u0007", "\u007f", "2026-01-01T00:00:01Z",
    "2026-01-01T00:15:00Z", "2026-01-01T00:15:00+05:30", "9999-12-31T23:45:00-12:00", [], {},
    [{}], {"a": 1},
]  # fmt: skip
PATHS = [
    ("id",), ("source",), ("time",), ("type",), ("specversion",), ("datacontenttype",), ("extra",),
    ("data",), ("data", "organisation_id"), ("data", "team_id"), ("data", "corrects"),
    ("data", "extra"), ("data", "as_of"), ("data", "as_of", "events_topic_id"),
    ("data", "as_of", "generation"), ("data", "as_of", "extra"), ("data", "uses"),
    ("data", "uses", 0, "quarter_start"), ("data", "uses", 0, "tokens"),
    ("data", "uses", 0, "credits_micro"), ("data", "uses", 0, "extra"),
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(STRANGE)), max_size=2))
@a_few
def test_both_say_the_same(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Whatever is changed in an event, both take it with the same content or name one reason."""
    event: Any = json.loads(SOUND.value())
    for path, value in changes:
        place: Any = event
        with suppress(LookupError, TypeError):  # what it leads to may have been changed before
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = deepcopy(value)  # for one may be put into another
    text = json.dumps(event).encode()
    assert _outcome(text, fast=True) == _outcome(text, fast=False)


def _outcome(text: bytes, *, fast: bool) -> object:
    """Return what a reader takes, or why it refuses."""
    try:
        if not fast:
            return parse_event(text, ORG_USAGE)
        document = json.loads(text)
        data = msgspec.to_builtins(decode_usage(text).data)
        return parse_event(json.dumps(document | {"data": data}).encode(), ORG_USAGE)
    except (InvalidEvent, Refused) as error:
        return error.verdict, error.detail


@pytest.mark.parametrize(
    ("corrects", "amount"), [(False, -1), (True, -1), (False, 0)], ids=["use", "void", "nothing"]
)
def test_only_corrections_take_back(corrects: bool, amount: int) -> None:
    """Usage that is less than nothing is refused, unless it is a correction."""
    told = Told("o", "t", "e", 0, ((0, (amount, 0, 0, 0, 0)),), corrects)
    if corrects or amount >= 0:
        assert decode_usage(told.value()).data.corrects is corrects
    else:
        with pytest.raises(Refused, match="only corrections take something back"):
            decode_usage(told.value())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra": 1}, None),
        ({"datacontenttype": "application/json; charset=utf-8"}, None),
        ({"datacontenttype": "text/plain"}, "datacontenttype: "),
        ({"id": "\u0080"}, "id: holds a control character"),
        ({"time": "0001-01-01T00:00:00Z"}, None),
    ],
)
def test_what_the_fast_reader_leaves_to_the_models(changes: Any, reason: str | None) -> None:
    """It is taken with the same content, or refused for their reason."""
    text = json.dumps(json.loads(SOUND.value()) | changes).encode()
    if reason is None:
        assert decode_usage(text).data == decode_usage(SOUND.value()).data
    else:
        with pytest.raises(Refused, match=reason):
            decode_usage(text)


def test_a_quarter_begins_at_a_quarter() -> None:
    """Whatever its offset, it is a multiple of fifteen minutes since 1970."""
    with pytest.raises(Refused, match="quarter_start is no multiple of 15 minutes"):
        decode_usage(replace(SOUND, uses=((AT_US + 1_000_000, (1, 0, 0, 0, 0)),)).value())
