"""What the records of `limit-states` say, read fast and kept small."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, Final, get_args

from meterstream.producers.exceptions import UnreadableState
from meterstream.schemas.control import Measure, SubjectKind, Window
from meterstream.schemas.times import parse_rfc3339, to_us

HEARTBEAT_KEY: Final = b'["heartbeat",'
"""How the keys of heartbeats begin: see `meterstream.schemas.thresholds.heartbeat_key`."""
TEAM_KEY: Final = b'["team",'
"""How the keys of teams' limits begin: see `meterstream.schemas.thresholds.state_key`."""
ORGANISATION_KEY: Final = b'["organisation",'
"""How the keys of organisations' limits begin."""

UNLIMITED: Final = 1 << 62

_SUBJECTS: Final = frozenset(get_args(SubjectKind))
_WHOLE: Final = frozenset({"team", "organisation"})
"""Subjects that are the owner of the limit itself, and need no id of their own."""
_MEASURES: Final = frozenset(get_args(Measure))
_WINDOWS: Final = frozenset(get_args(Window))


class AsOf:
    """Up to where usage was counted, as `meterstream.schemas.thresholds.AsOf`."""

    __slots__ = ("events_position", "order", "partition", "topic_id")

    def __init__(self, raw: Mapping[str, Any], partition: int) -> None:
        generation, offset = raw["generation"], raw["journal_offset"]
        position, topic_id = raw["events_position"], raw["events_topic_id"]
        if not (type(generation) is type(offset) is type(position) is int):
            raise ValueError("as_of holds something else than whole numbers")
        if type(partition) is not int or raw["partition"] != partition:
            raise ValueError("as_of names another partition")
        if type(topic_id) is not str or not topic_id:
            raise ValueError("as_of names no topic")
        self.partition: Final = partition
        self.topic_id: Final = intern(topic_id)
        self.order: Final[tuple[int, int]] = (generation, offset)
        """Orders two of one topic and partition: generation, journal offset."""
        self.events_position: Final = position


class State:
    """Where a limit stands; never changed, so that a check may read it without a lock."""

    __slots__ = (
        "amount", "as_of", "blocked", "events_position", "hard", "limit_id", "limit_version",
        "measure", "owner_id", "room", "subject", "subject_id", "used", "window", "window_end_us",
        "window_start_us",
    )  # fmt: skip

    def __init__(self, raw: Mapping[str, Any], partition: int) -> None:
        self.as_of: Final = AsOf(raw["as_of"], partition)
        self.subject: Final[SubjectKind] = _one_of(raw["subject"], _SUBJECTS)
        of_teams = self.subject != "organisation"
        if raw.get("organisation_id" if of_teams else "team_id") is not None:
            raise ValueError("subject and owner do not fit together")
        self.owner_id: Final = intern(_text(raw["team_id" if of_teams else "organisation_id"]))
        """The team, or of a limit whose subject is an organisation that organisation."""
        self.events_position: Final = self.as_of.events_position if of_teams else -1
        """The first event that is not counted yet; -1 for an organisation: its heartbeat tells."""
        self.limit_id: Final = intern(_text(raw["limit_id"]))
        self.limit_version: Final[int] = raw["limit_version"]
        subject_id = raw.get("subject_id")
        if (subject_id is None) != (self.subject in _WHOLE):
            raise ValueError("subject and subject_id do not fit together")
        self.subject_id: Final = None if subject_id is None else intern(_text(subject_id))
        self.measure: Final[Measure] = _one_of(raw["measure"], _MEASURES)
        self.window: Final[Window] = _one_of(raw["window"], _WINDOWS)
        self.window_start_us: Final = _time_us(raw["window_start"])
        end = raw.get("window_end")
        self.window_end_us: Final = None if end is None else _time_us(end)
        self.amount: Final[int] = raw["amount"]
        self.used: Final[int] = raw["used"]
        if not (type(self.amount) is type(self.used) is type(self.limit_version) is int):
            raise ValueError("amount, used or limit_version is no whole number")
        self.hard: Final = _one_of(raw["enforcement"], ("hard", "soft")) == "hard"
        self.blocked: Final = _one_of(raw["state"], ("admitting", "blocked")) == "blocked"
        if not self.hard:
            room = UNLIMITED
        elif self.blocked:
            room = min(0, self.amount - self.used)
        else:
            room = self.amount - self.used
        self.room: Final = room
        """How much more it admits: a soft limit everything, a blocked one nothing."""


class Heartbeat:
    """Up to where the states of a partition are told, those of teams or of organisations."""

    __slots__ = ("all_told", "as_of", "clock_us", "counted", "owners")

    def __init__(self, raw: Mapping[str, Any], partition: int) -> None:
        self.owners: Final = _text(raw.get("owners", "teams"))
        self.as_of: Final = AsOf(raw["as_of"], partition)
        self.clock_us: Final = _time_us(raw["clock"])
        self.all_told: Final = raw.get("all_told", True) is not False
        """Whether the generation has told all its limits."""
        teams = (AsOf(one, one["partition"]) for one in raw.get("counted", ()))
        self.counted: Final = {(one.topic_id, one.partition): one.events_position for one in teams}
        """Of organisations: by topic id and partition of events, the first one whose usage is not
        part of what is told."""


def read_state(value: bytes, partition: int) -> State:
    """Return the state that a record of `partition` holds; UnreadableState says what is wrong."""
    try:
        return State(json.loads(value.decode()), partition)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable("state", error, partition) from None


def read_heartbeat(value: bytes, partition: int) -> Heartbeat:
    """Return the heartbeat that a record of `partition` holds; UnreadableState if none."""
    try:
        return Heartbeat(json.loads(value.decode()), partition)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable("heartbeat", error, partition) from None


def _unreadable(what: str, error: Exception, partition: int) -> UnreadableState:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        why = "no JSON"
    elif isinstance(error, KeyError):
        why = f"{error} is missing"
    else:
        why = str(error)
    return UnreadableState(
        f"a {what} in partition {partition} of the limit states breaks the contract: {why};"
        " what was known before still holds (was it written by a newer version?)"
    )


def _text(value: object) -> str:
    if type(value) is not str or not value:
        raise ValueError("a name is no text")
    return value


def _one_of(value: Any, known: Any) -> Any:
    if value not in known:
        raise ValueError("it names a subject, measure, window, enforcement or state of its own")
    return intern(value)


@lru_cache(maxsize=4096)
def _time_us(text: str) -> int:
    """Return RFC 3339 text as microseconds; remembered, since limits share their windows."""
    if not text.endswith("Z"):
        return to_us(parse_rfc3339(text))
    try:
        return to_us(datetime.fromisoformat(text))
    except ValueError:
        return to_us(parse_rfc3339(text))
