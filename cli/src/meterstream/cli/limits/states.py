"""Where limits stand, from the public topic `limit-states`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from confluent_kafka import Message
from pydantic import ValidationError

from meterstream.cli.connection import Connection
from meterstream.cli.entries.records import control_partitions
from meterstream.cli.money import amount_text, level_text
from meterstream.cli.topic_reader import read_topic
from meterstream.schemas.control import CREDITS_LIMIT
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import (
    OWNERS,
    LimitHeartbeat,
    LimitState,
    Owners,
    heartbeat_key,
    state_key,
)
from meterstream.schemas.times import EPOCH, format_rfc3339
from meterstream.schemas.topics import LIMIT_STATES

from .known import LimitName


@dataclass(slots=True)
class States:
    """The last state of each limit, balances among them, and up to when each partition counted.

    Teams and organisations are counted apart.
    """

    by_name: dict[LimitName, LimitState] = field(default_factory=dict)
    clocks: dict[tuple[Owners, int], datetime] = field(default_factory=dict)

    def of(self, name: LimitName, version: int) -> LimitState | None:
        """Return where a limit stands; None where its present version was not told yet."""
        state = self.by_name.get(name)
        return state if state is not None and state.limit_version == version else None

    def balance(self, team_id: str) -> LimitState | None:
        """Return the state of a team's balance; None where it has no account."""
        return self.by_name.get(LimitName(team_id, "", CREDITS_LIMIT))

    def are_told(self, owners: Owners) -> bool:
        """Tell whether somebody publishes the states of teams, or of organisations."""
        return any(of == owners for of, _ in self.clocks)

    def counted_until(self, owners: Owners) -> datetime | None:
        """Return the time up to which all partitions have counted that ever had something to."""
        clocks = (clock for (of, _), clock in self.clocks.items() if of == owners)
        return min((clock for clock in clocks if clock > EPOCH), default=None)


def read_states(connection: Connection, owner: str | None = None) -> States:
    """Read what the topic holds now, all of it or the partition of one team or organisation."""
    partition = None if owner is None else partition_of(owner, control_partitions(connection))
    return fold_states(read_topic(connection, LIMIT_STATES, partition=partition))


def fold_states(messages: Iterable[Message]) -> States:
    """Return the last state under each key; the topic keeps the order of each partition."""
    states = States()
    names: dict[bytes, LimitName] = {}
    for message in messages:
        key, value = message.key(), message.value()
        if not isinstance(key, bytes):
            continue
        if value is None:
            states.by_name.pop(names.pop(key, LimitName("", "", "")), None)
        elif isinstance(value, bytes):
            _take(states, names, message.partition() or 0, key, value)
    return states


def _take(
    states: States, names: dict[bytes, LimitName], partition: int, key: bytes, value: bytes
) -> None:
    try:
        if key in (heartbeat_key(partition, owners).encode() for owners in OWNERS):
            beat = LimitHeartbeat.model_validate_json(value)
            states.clocks[beat.owners, partition] = beat.clock
            return
        state = LimitState.model_validate_json(value)
    except ValidationError:
        return  # no record of this contract: its readers ignore it
    if key != state_key(state).encode():
        return
    name = LimitName(state.team_id or "", state.organisation_id or "", state.limit_id)
    before = states.by_name.get(name)
    if before is not None and _order(before) > _order(state):
        return
    names[key] = name
    states.by_name[name] = state


def _order(state: LimitState) -> tuple[int, int]:
    return state.as_of.generation, state.as_of.journal_offset


def state_columns(state: LimitState | None) -> Mapping[str, Any]:
    """Return where a limit stands, for a table."""
    if state is None:
        return dict.fromkeys(("used", "left", "reached", "state", "resets"), "-")
    end = format_rfc3339(state.window_end) if state.window_end else "-"
    left = max(state.amount - state.used, 0)
    return {
        "used": amount_text(state.used, state.measure),
        "left": amount_text(left, state.measure),
        "reached": level_text(state.reached_permille) if state.reached_permille else "-",
        "state": state.state,
        "resets": end,
    }
