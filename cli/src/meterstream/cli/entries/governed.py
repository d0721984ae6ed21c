"""Entries of the control topic other than limits, as they were written."""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar, cast

from meterstream.cli.connection import Connection
from meterstream.schemas.control import ControlEvent, control_key
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import CONTROL

from .records import control_entries, control_partitions

E = TypeVar("E", bound=ControlEvent)


def governing(
    connection: Connection, kind: type[E] | tuple[type[E], ...], team_id: str | None = None
) -> Iterator[tuple[E, datetime]]:
    """Yield the well-formed entries of some kind, of one team or all, and when each was written.

    Entries that stand in another partition than their team's are none: no meter takes them.
    """
    count = control_partitions(connection)
    only = None if team_id is None else partition_of(team_id, count)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    marks = [str(each.model_fields["type"].default).encode() for each in kinds]
    for partition, entry in control_entries(connection, only):
        if entry.value is None or not any(mark in entry.value for mark in marks):
            continue
        try:
            event = cast(ControlEvent, parse_event(entry.value, CONTROL))
        except InvalidEvent:
            continue
        key = control_key(event)
        wanted = team_id is None or key == team_id
        if isinstance(event, kinds) and wanted and partition_of(key, count) == partition:
            yield event, from_us(entry.log_time_us)
