"""A gate for the tests of services: it knows what it is told, and asks no broker."""

import json
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, cast, get_args
from uuid import UUID

from prometheus_client import CollectorRegistry

from meterstream.schemas.control import Measure, SubjectKind, Window
from meterstream.schemas.thresholds import (
    AsOf,
    LimitHeartbeat,
    LimitState,
    Owners,
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
        self._known.organisations.catalog_reached_end()
        self.counted(0)
        self._known.reached_end(0)

    def set_limit(
        self,
        limit_id: str,
        team: str | None = None,
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

        With organisation= in place of a team it is that organisation's: see `put_into`.
        Tell it again with what is used by then. It is `blocked` if hard and used up, unless told.
        The reserved id `credits` with the window `balance` is a team's balance: `amount` is its
        overdraft and `used` the balance with the other sign.
        """
        kind, subject_id = next(iter(subject.items()), ("team", None))
        organisation = subject_id if kind == "organisation" else None
        if (team is None) == (organisation is None):
            raise TypeError("a limit is of a team or of an organisation")
        if blocked is None:
            blocked = hard and used >= amount
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        state = LimitState(
            team_id=team,
            organisation_id=organisation,
            limit_id=limit_id,
            limit_version=1,
            subject=_subject(kind),
            subject_id=None if organisation else subject_id,
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

    def remove_limit(
        self, limit_id: str, team: str | None = None, *, organisation: str | None = None
    ) -> None:
        """Remove a limit."""
        names: Any = {"team_id": team, "organisation_id": organisation, "limit_id": limit_id}
        self._known.take(0, state_key(LimitState.model_construct(**names)).encode(), None)

    def put_into(self, team: str, organisation: str, *parents: str) -> None:
        """Let a team be part of an organisation, and that of its parents, upwards."""
        self._register("team", {"team_id": team, "organisation_id": organisation})
        for below, above in pairwise((organisation, *parents, None)):
            self._register("organisation", {"organisation_id": below, "parent_id": above})

    def counted(self, events_position: int) -> None:
        """Tell that all events before this offset were counted: what was settled with them ends."""
        as_of = self._as_of(events_position)
        for owners in get_args(Owners):
            beat = LimitHeartbeat(
                partition=0,
                owners=owners,
                as_of=as_of,
                clock=datetime.now(UTC) + _EVER,
                counted=(as_of,) if owners == "organisations" else (),
            )
            self._known.take(0, heartbeat_key(0, owners).encode(), beat.model_dump_json().encode())

    def go_stale(self) -> None:
        """Let what is known be a day old, until `counted` is called."""
        for told in (*self._known.partitions, *self._known.of_organisations):
            told.clock_us = time.time_ns() // 1000 - 86_400_000_000

    def _register(self, kind: str, data: dict[str, str | None]) -> None:
        name = data[f"{kind}_id"]
        event = {"type": f"meterstream.{kind}.registered.v1", "data": data}
        self._known.organisations.take_entry(f"{kind}/{name}".encode(), json.dumps(event).encode())

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
        if kind == known:
            return cast(SubjectKind, known)
    raise TypeError(
        f"a limit is of a user, agent, project, feature or organisation, not of a {kind}"
    )
