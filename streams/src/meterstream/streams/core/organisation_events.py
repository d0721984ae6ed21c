"""Reading what teams used, as organisations are told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from meterstream.schemas.fields import MAX_EVENT_BYTES, is_json_media_type
from meterstream.schemas.organisations import (
    MAX_USE,
    MAX_USES,
    MEASURES,
    ORGANISATION_USED,
    QUARTER_US,
)
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.topics import ORG_USAGE
from meterstream.schemas.verdicts import Verdict

from .batch import EventBatch
from .columns import times_to_us
from .decode import Event, Refused
from .read import PartitionOf, needs_a_closer_look, offender

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Time = Annotated[datetime, Meta(tz=True)]
_Use = Annotated[int, Meta(ge=-MAX_USE, le=MAX_USE)]
_Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class UseRow(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """What was used in a quarter of an hour, as `UseData`."""

    quarter_start: _Time
    credits_micro: _Use = 0
    tokens: _Use = 0
    runs: _Use = 0
    api_calls: _Use = 0
    sessions: _Use = 0


class AsOfRow(Struct, gc=False, kw_only=True):
    """Up to where usage was counted, as `AsOf`."""

    events_topic_id: UUID
    generation: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    journal_offset: _Offset
    events_position: _Offset


class UsedData(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """What a team used, as `OrganisationUsedData`."""

    organisation_id: _Id
    team_id: _Id
    as_of: AsOfRow
    more: bool = False
    corrects: bool = False
    uses: Annotated[list[UseRow], Meta(min_length=1, max_length=MAX_USES)]


class OrganisationUsed(Event, gc=False, kw_only=True, tag_field="type", tag=ORGANISATION_USED):
    """A team of an organisation has used something."""

    data: UsedData


_decode: Final = msgspec.json.Decoder(OrganisationUsed).decode


@dataclass(slots=True)
class ReadUsage:
    """The events of a batch with their positions in it, and the records that were refused.

    `events` and `at` have the same length; `refused` are (position, verdict, detail).
    """

    events: list[OrganisationUsed]
    at: list[int]
    refused: list[tuple[int, Verdict, str]]


def read_usage(
    values: Sequence[bytes | None],
    partition: int,
    partition_of_organisation: PartitionOf,
    quarantined: Mapping[int, str],
) -> ReadUsage:
    """Read the values of a batch, in order, as `read_batch` does events of teams."""
    found = ReadUsage([], [], [])
    for i, value in enumerate(values):
        try:
            if i in quarantined:
                raise offender(quarantined[i])
            event = decode_usage(value)
            if partition_of_organisation(event.data.organisation_id) != partition:
                raise Refused(
                    Verdict.WRONG_PARTITION,
                    "data.organisation_id: belongs to another partition",
                )
        except Refused as error:
            found.refused.append((i, error.verdict, error.detail))
            continue
        found.events.append(event)
        found.at.append(i)
    return found


def decode_usage(value: bytes | None) -> OrganisationUsed:
    """Return the event that `value` holds, or raise Refused with the reason the models name."""
    if value is not None and len(value) <= MAX_EVENT_BYTES and not needs_a_closer_look((value,)):
        try:
            event = _decode(value)
            if _is_sound(event):
                return event
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    try:
        model = parse_event(value, ORG_USAGE)
    except InvalidEvent as error:
        raise Refused(error.verdict, error.detail) from None
    plain = model.model_dump(mode="json", exclude_none=True)
    return msgspec.convert(plain, OrganisationUsed)


def _is_sound(event: OrganisationUsed) -> bool:
    """Tell whether an event keeps the rules that its types do not tell."""
    if event.datacontenttype is not None and not is_json_media_type(event.datacontenttype):
        return False
    data = event.data
    if (times_to_us([use.quarter_start for use in data.uses]) % QUARTER_US).any():
        return False
    return data.corrects or all(getattr(use, n) >= 0 for use in data.uses for n in MEASURES)


def until_corrections(batch: EventBatch) -> tuple[EventBatch, EventBatch | None]:
    """Divide a batch before the first correction that comes after usage; the rest may be None.

    Corrections of a step count before the usage of it: so what comes first is decided first, and a
    level that was reached before something was taken back is told.
    """
    usage_seen = False
    for i, value in enumerate(batch.values):
        corrects = value is not None and _may_correct(value) and _corrects(value)
        if corrects and usage_seen:
            return batch.part(0, i), batch.part(i, len(batch.values))
        usage_seen = usage_seen or not corrects
    return batch, None


def _may_correct(value: bytes) -> bool:
    """Tell cheaply whether an event may be a correction: as the publisher writes it, most not."""
    return b'"corrects"' in value and b'"corrects":false' not in value


def _corrects(value: bytes) -> bool:
    try:
        return decode_usage(value).data.corrects
    except Refused:
        return False
