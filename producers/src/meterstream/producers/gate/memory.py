"""A gate for the tests of services: it knows what it is told, and asks no broker."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast, get_args
from uuid import UUID

from prometheus_client import CollectorRegistry

from meterstream.schemas.control import Measure, SubjectKind, Window
from meterstream.schemas.thresholds import (
    AsOf,
    LimitHeartbeat,
    LimitState,
    heartbeat_key,
    state_key,
)

from .gate import Gate
from .settings import FailMode, GateSettings

_TOPIC_ID: Final = UUID(int=1)
_EVER: Final = timedelta(days=3650)


class InMemoryGate(Gate):
    """Stands in for `LimitGate`: `set_limit` tells it what the meter would have told.

    What is settled stays held until `counted`, as it does until the meter has counted it.
    """

    def __init__(self, *, gate_fail: FailMode = "fail_open", gate_processes: int = 1) -> None:
        settings = GateSettings.make(
            kafka_bootstrap="memory", gate_fail=gate_fail, gate_processes=gate_processes
        )
        super().__init__(settings, CollectorRegistry())
        self._told = 0
        self._known.set_partitions(1)
        self.counted(0)
        self._known.reached_end(0)

    def set_limit(
        self,
        limit_id: str,
        team: str,
        *,
        amount: int,
        measure: Measure = "runs",
        used: int = 0,
        hard: bool = True,
        blocked: bool | None = None,
        window: Window = "day",
        **subject: str,
    ) -> None:
        """Set a limit of a team, or with user=, agent=, project= or feature= of one within it.

        Tell it again with what is used by then. It is `blocked` if hard and used up, unless told.
        The reserved id `credits` with the window `balance` is a team's balance: `amount` is its
        overdraft and `used` the balance with the other sign.
        """
        kind, subject_id = next(iter(subject.items()), ("team", None))
        if blocked is None:
            blocked = hard and used >= amount
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        state = LimitState(
            team_id=team,
            limit_id=limit_id,
            limit_version=1,
            subject=_subject(kind),
            subject_id=subject_id,
            measure=measure,
            window=window,
            window_start=today,
            window_end=None if window == "balance" else today + timedelta(days=1),
            amount=amount,
            as_of=self._as_of(),
            enforcement="hard" if hard else "soft",
            state="blocked" if blocked else "admitting",
            used=used,
            reached_permille=0,
        )
        self._known.take(0, state_key(state).encode(), state.model_dump_json().encode())

    def remove_limit(self, limit_id: str, team: str) -> None:
        """Remove a limit."""
        names: Any = {"team_id": team, "organisation_id": None, "limit_id": limit_id}
        self._known.take(0, state_key(LimitState.model_construct(**names)).encode(), None)

    def counted(self, events_position: int) -> None:
        """Tell that all events before this offset were counted: what was settled with them ends."""
        as_of = self._as_of(events_position)
        beat = LimitHeartbeat(partition=0, as_of=as_of, clock=datetime.now(UTC) + _EVER)
        self._known.take(0, heartbeat_key(0).encode(), beat.model_dump_json().encode())

    def go_stale(self) -> None:
        """Let what is known be a day old, until `counted` is called."""
        self._known.partitions[0].clock_us = time.time_ns() // 1000 - 86_400_000_000

    def _as_of(self, events_position: int | None = None) -> AsOf:
        self._told += 1
        if events_position is None:
            events_position = max(0, self._known.partitions[0].events_position)
        return AsOf(
            events_topic_id=_TOPIC_ID,
            generation=1,
            partition=0,
            journal_offset=self._told,
            events_position=events_position,
        )


def _subject(kind: str) -> SubjectKind:
    for known in get_args(SubjectKind):
        if kind == known != "organisation":
            return cast(SubjectKind, known)
    raise TypeError(f"a limit is of a user, agent, project or feature, not of a {kind}")
