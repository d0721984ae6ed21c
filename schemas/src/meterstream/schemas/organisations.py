"""What a team used, told to each organisation that it is part of.

The publisher writes one event a team, organisation and journal record to `org-usage`, keyed by the
organisation, and the meter of organisations counts them as the meter of teams counts runs. An
organisation that is part of another one is followed upwards: each of the chain gets its own event.
Ids follow from the journal record, so that usage which is told twice is counted once.
"""

import hashlib
import json
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from .envelope import Envelope
from .fields import Data, Id, Time
from .thresholds import AsOf
from .times import to_us

ORGANISATION_USED: Final = "meterstream.organisation.used.v1"

MEASURES: Final = ("credits_micro", "tokens", "runs", "api_calls", "sessions")
QUARTER_US: Final = 900_000_000
MAX_USES: Final = 400
"""Quarters of an hour in one event: so it stays below the size of the largest event."""
MAX_USE: Final = 2**62 - 1

Use = Annotated[int, Field(ge=-MAX_USE, le=MAX_USE)]
"""What one journal record counted; less than 0 where corrections took back more than was used."""


class UseData(Data):
    """What was used in a quarter of an hour of event time."""

    quarter_start: Time
    """A multiple of 15 minutes since 1970: the offsets of all zones are."""
    credits_micro: Use = 0
    tokens: Use = 0
    runs: Use = 0
    api_calls: Use = 0
    sessions: Use = 0

    @model_validator(mode="after")
    def _begins_a_quarter(self) -> Self:
        if to_us(self.quarter_start) % QUARTER_US:
            raise PydanticCustomError("inconsistent", "quarter_start is no multiple of 15 minutes")
        return self


class OrganisationUsedData(Data):
    """What a team of an organisation used, as one journal record counted it.

    `as_of` is up to where the team's partition was counted with it. Usage and corrections of one
    record come in events of their own, corrections first. `more` says that further events of the
    record follow in the same partition of `org-usage`: only with the last of them all is counted
    there up to `as_of`.
    """

    organisation_id: Id
    team_id: Id
    as_of: AsOf
    more: bool = False
    corrects: bool = False
    uses: Annotated[tuple[UseData, ...], Field(strict=False, min_length=1, max_length=MAX_USES)]

    @model_validator(mode="after")
    def _takes_back_by_corrections_only(self) -> Self:
        if not self.corrects and any(getattr(u, name) < 0 for u in self.uses for name in MEASURES):
            raise PydanticCustomError("inconsistent", "uses: only corrections take something back")
        return self


class OrganisationUsed(Envelope):
    """A team of an organisation has used something. `time` is the log time of the record."""

    type: Literal["meterstream.organisation.used.v1"] = ORGANISATION_USED
    data: OrganisationUsedData


def organisation_usage_id(
    events_topic_id: UUID,
    generation: int,
    partition: int,
    journal_offset: int,
    team_id: str,
    *,
    corrects: bool,
    part: int,
) -> str:
    """Return the id of an event of `org-usage`: a hash of the record, the team and the part.

    `part` numbers the events from 0 into which the usage of one team and record is divided, where
    it lies in more than MAX_USES quarters.
    """
    place = [str(events_topic_id), generation, partition, journal_offset, team_id, corrects, part]
    text = json.dumps(place, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
