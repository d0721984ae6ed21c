"""What teams used, on the way to `org-usage`: an event for each team and organisation above it.

They go to the partitions of their organisations, whichever journal partition told them, in the
transaction of all else that the record decided. So the meter of organisations gets each of them
once, and knows them by their ids if it should read one again.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.organisations import MAX_USES, ORGANISATION_USED, organisation_usage_id
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.rows import TEAM_USAGE
from meterstream.streams.journal.reader import JournalRecord

from .encoding import UNREADABLE, columns_of, encode, time_text
from .place import Place

_SCHEMA: Final = arrow_schema(TEAM_USAGE)


class UsageRecord(NamedTuple):
    """One record for the `org-usage` topic."""

    partition: int
    key: bytes
    value: bytes


class _Use(msgspec.Struct, gc=False, omit_defaults=True):
    quarter_start: str
    credits_micro: int = 0
    tokens: int = 0
    runs: int = 0
    api_calls: int = 0
    sessions: int = 0


class _Data(msgspec.Struct, gc=False):
    organisation_id: str
    team_id: str
    as_of: msgspec.Raw
    more: bool
    corrects: bool
    uses: msgspec.Raw


class _Event(msgspec.Struct, gc=False):
    """`OrganisationUsed`, field by field: a property test holds the two together."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    data: _Data


class TeamUsage:
    """Makes the events of `org-usage`, which has so many partitions; `source` names what counts."""

    def __init__(self, source: str, partitions: int) -> None:
        self._source = source
        self._partition_of = lru_cache(maxsize=10_000)(
            lambda organisation_id: partition_of(organisation_id, partitions)
        )

    def records(
        self, section: memoryview, record: JournalRecord, place: Place
    ) -> list[UsageRecord]:
        """Return what the TEAM_USAGE of a valid record tells, corrections first.

        `place` is up to where was counted with it. Raises MalformedRecord where it cannot be read.
        """
        try:
            events = [
                event
                for usage in _by_team(columns_of(section, _SCHEMA))
                for event in self._of_team(usage, record, place)
            ]
            return self._encoded(events)
        except UNREADABLE as error:
            raise MalformedRecord(
                f"what journal offset {record.offset} tells of teams cannot be read: {error}"
            ) from error

    def _of_team(self, usage: "_Usage", record: JournalRecord, place: Place) -> Iterator[_Event]:
        time, as_of = time_text(record.timestamp_us), place.as_of()
        for part, first in enumerate(range(0, len(usage.uses), MAX_USES)):
            id_ = organisation_usage_id(
                place.events_topic_id,
                place.link.generation,
                place.partition,
                record.offset,
                usage.team_id,
                corrects=usage.corrects,
                part=part,
            )
            told = msgspec.Raw(encode(usage.uses[first : first + MAX_USES]))
            for owner in usage.organisations:
                data = _Data(owner, usage.team_id, as_of, False, usage.corrects, told)
                yield _Event("1.0", id_, self._source, ORGANISATION_USED, time, data)

    def _encoded(self, events: Sequence[_Event]) -> list[UsageRecord]:
        """Return events as records; all but the last of each partition say that more follow."""
        found: list[UsageRecord] = []
        ended: set[int] = set()
        for event in reversed(events):
            owner = event.data.organisation_id
            partition = self._partition_of(owner)
            event.data.more = partition in ended
            ended.add(partition)
            found.append(UsageRecord(partition, owner.encode(), encode(event)))
        return found[::-1]


class _Usage(NamedTuple):
    """What a record tells of one team: its usage, or corrections."""

    team_id: str
    organisations: tuple[str, ...]
    corrects: bool
    uses: list[_Use]


def _by_team(columns: list[Sequence[Any]]) -> list[_Usage]:
    """Gather the rows by team, corrections before usage, whatever their order."""
    found: dict[tuple[int, str], _Usage] = {}
    for team_id, chain, corrects, start_us, *amounts in zip(*columns, strict=True):
        usage = found.get((corrects, team_id))
        if usage is None:
            usage = _Usage(team_id, _organisations(chain), bool(corrects), [])
            found[corrects, team_id] = usage
        if usage.organisations != _organisations(chain):
            raise MalformedRecord("a team belongs to two organisations at a time")
        usage.uses.append(_Use(time_text(start_us), *amounts))
    return sorted(found.values(), key=lambda usage: not usage.corrects)


@lru_cache(maxsize=10_000)
def _organisations(chain: str) -> tuple[str, ...]:
    return msgspec.json.decode(chain, type=tuple[str, ...])
