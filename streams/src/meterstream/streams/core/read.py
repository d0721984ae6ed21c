"""Reading a batch: each record becomes an event, or is refused with one reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.verdicts import Verdict

from .columns import (
    holds_control_characters,
    may_hold_control_characters,
    run_columns,
    times_to_us,
)
from .decode import AnyEvent, Completed, Refused, decode_event, decode_slowly

_LAST_YEARS: Final = (b'"0001-', b'"9999-')
"""How a time of the calendar's first and last year begins, unless it is written with escapes."""


@dataclass(slots=True)
class ReadBatch:
    """The events of a batch with their positions in it, and the records that were refused.

    `events` and `at` have the same length; `refused` are (position, verdict, detail).
    """

    events: list[AnyEvent]
    at: list[int]
    refused: list[tuple[int, Verdict, str]]


class PartitionOf:
    """Remembers which partition a team belongs to, for as many teams as fit."""

    def __init__(self, partitions: int, limit: int = 1_000_000) -> None:
        self._partitions = partitions
        self._limit = limit
        self._known: dict[str, int] = {}

    def __call__(self, team_id: str) -> int:
        """Return the partition of a team."""
        partition = self._known.get(team_id)
        if partition is None:
            if len(self._known) >= self._limit:
                self._known.clear()
            partition = self._known[team_id] = partition_of(team_id, self._partitions)
        return partition


def read_batch(
    values: Sequence[bytes | None],
    partition: int,
    partition_of_team: PartitionOf,
    quarantined: Mapping[int, str] = MappingProxyType({}),
) -> ReadBatch:
    """Read the values of a batch, in order.

    A value that is well formed but belongs to another partition is refused as WRONG_PARTITION; a
    position in `quarantined`, which says what was raised, is refused as INTERNAL, unread.
    """
    events: list[AnyEvent] = []
    at: list[int] = []
    refused: list[tuple[int, Verdict, str]] = []
    look_closely = needs_a_closer_look(values)
    here: set[str] = set()
    elsewhere: set[str] = set()
    strangers: list[tuple[int, AnyEvent]] = []
    for i, value in enumerate(values):
        try:
            if i in quarantined:
                raise offender(quarantined[i])
            event = decode_event(value)
            if look_closely and value is not None:
                _look_closely(value, event)
            team_id = event.data.team_id
            if team_id not in here:
                if team_id in elsewhere or partition_of_team(team_id) != partition:
                    elsewhere.add(team_id)
                    strangers.append((i, event))
                    continue
                here.add(team_id)
        except Refused as error:
            refused.append((i, error.verdict, error.detail))
            continue
        events.append(event)
        at.append(i)
    refused += _refuse_strangers(values, strangers)
    refused.sort()
    return ReadBatch(events, at, refused)


def offender(what: str) -> Refused:
    """Return why an event is refused on which the core itself raised `what`."""
    return Refused(
        Verdict.INTERNAL, f"the meter failed on this event ({what}); replay it after an upgrade"
    )


def _refuse_strangers(
    values: Sequence[bytes | None], strangers: Sequence[tuple[int, AnyEvent]]
) -> Iterator[tuple[int, Verdict, str]]:
    """Refuse what belongs to another partition, unless it is no event at all: then for that."""
    runs = [(i, event) for i, event in strangers if isinstance(event, Completed)]
    times_us = times_to_us([event.time for _, event in runs])
    inconsistent = run_columns([event for _, event in runs], times_us).inconsistent
    suspects = {i for (i, _), suspect in zip(runs, inconsistent.tolist(), strict=True) if suspect}
    for i, _ in strangers:
        try:
            if i in suspects:
                decode_slowly(values[i])
        except Refused as error:
            yield i, error.verdict, error.detail
        else:
            yield i, Verdict.WRONG_PARTITION, "data.team_id: belongs to another partition"


def needs_a_closer_look(values: Sequence[bytes | None]) -> bool:
    """Tell whether any value may hold control characters or a time at the calendar's end."""
    whole = b"".join(value for value in values if value)
    return any(year in whole for year in _LAST_YEARS) or may_hold_control_characters(whole)


def _look_closely(value: bytes, event: AnyEvent) -> None:
    """Ask the models about an event that the fast reader took and that they might refuse."""
    if _near_the_calendars_end(event) or (
        may_hold_control_characters(value) and holds_control_characters(event)
    ):
        decode_slowly(value)


def _near_the_calendars_end(event: AnyEvent) -> bool:
    """Tell whether a time of the event may leave the calendar when its offset is taken off."""
    started_at = getattr(event.data, "started_at", event.time)
    ended_at = getattr(event.data, "ended_at", None) or event.time
    return not (
        1 < event.time.year < 9999 and 1 < started_at.year < 9999 and 1 < ended_at.year < 9999
    )
