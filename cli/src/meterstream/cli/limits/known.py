"""The limits in force and their versions, as the control topic says them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from meterstream.cli.connection import Connection
from meterstream.cli.entries.records import control_entries, control_partitions
from meterstream.schemas.control import (
    ControlEvent,
    LimitRemoved,
    LimitRemovedData,
    LimitSet,
    LimitSetData,
)
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import OWNERS, Owners
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import CONTROL
from meterstream.streams.core.batch import Entry
from meterstream.streams.core.control import Control, judge_control
from meterstream.streams.core.entries import KeptEntry

_MARK: Final = b"meterstream.limit."
"""In the type of every entry that sets or removes a limit: the others need not be read."""


@dataclass(frozen=True, slots=True, order=True)
class LimitName:
    """What a limit is found by: its team (or organisation), and its id within it."""

    team_id: str
    """Empty for a limit of an organisation."""
    organisation_id: str
    limit_id: str

    @classmethod
    def of(cls, data: LimitSetData | LimitRemovedData) -> "LimitName":
        """Return the name of the limit that an entry is about."""
        return cls(data.team_id or "", data.organisation_id or "", data.limit_id)

    @property
    def owners(self) -> Owners:
        """Whose meter decides it."""
        return "organisations" if self.organisation_id else "teams"

    @property
    def owner(self) -> str:
        """The key of its entries."""
        return self.team_id or self.organisation_id

    def __str__(self) -> str:
        """Name it for a person."""
        owner = self.team_id or f"organisation {self.organisation_id}"
        return f"{owner} {self.limit_id}"


@dataclass(frozen=True, slots=True)
class KnownLimit:
    """The last word on a limit: what it is set to, or None once it was removed."""

    version: int
    data: LimitSetData | None
    set_at: datetime


Known = Mapping[LimitName, KnownLimit]


def read_limits(connection: Connection, owner: str | None = None) -> dict[LimitName, KnownLimit]:
    """Read all limits, or those whose entries `owner` keys; removed ones are among them.

    Entries that the meter refuses are none here either: its core judges them.
    """
    count = control_partitions(connection)
    partition = None if owner is None else partition_of(owner, count)
    return fold_limits(control_entries(connection, partition), count)


def fold_limits(
    entries: Iterable[tuple[int, Entry]], partitions: int
) -> dict[LimitName, KnownLimit]:
    """Return what control entries, each with its partition, leave of every limit."""
    by_partition: dict[int, list[Entry]] = defaultdict(list)
    for number, entry in entries:
        if entry.value is not None and _MARK in entry.value:
            by_partition[number].append(entry)
    found: dict[LimitName, KnownLimit] = {}
    for number, own in by_partition.items():
        for owners in OWNERS:
            for kept in _taken(own, number, partitions, owners):
                event = cast(LimitSet | LimitRemoved, parse_event(kept.event.encode(), CONTROL))
                data = event.data if isinstance(event, LimitSet) else None
                found[LimitName.of(event.data)] = KnownLimit(
                    event.data.version, data, from_us(kept.log_time_us)
                )
    return found


def _taken(
    entries: Sequence[Entry], partition: int, partitions: int, owners: Owners
) -> list[KeptEntry]:
    return judge_control(Control(), entries, partition, partitions, _nothing_to_look_up, owners)[0]


def _nothing_to_look_up(_: ControlEvent, _replaces: bool) -> None:
    """Only limits are judged here, and they name nothing that must be known."""
