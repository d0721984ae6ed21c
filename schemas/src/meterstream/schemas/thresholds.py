"""The public contract of limits: threshold events, and the state of each limit.

Threshold events are CloudEvents in the `thresholds` topic, keyed by team (or organisation). Their
ids follow from what they tell, so a consumer that sees one twice can tell. `limit-states` is
compacted and holds where each limit stands; readers ignore a record whose `as_of` is older than
the one they have, since compaction keeps the last position and not the highest version. Between
the states stand heartbeats, one key a partition: all states up to their `as_of` come before them.

Fields may be added to what is told here; readers ignore those that they do not know.
"""

import hashlib
import json
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import ConfigDict, Field

from .catalog import Version
from .control import (
    Amount,
    GrantMicro,
    LevelPermille,
    LimitRemovedData,
    LimitSetData,
    Measure,
    SubjectKind,
    Window,
)
from .envelope import Envelope
from .fields import Data, Id, LongId, SourceUri, Time, UserId

THRESHOLD_REACHED: Final = "meterstream.usage.threshold.reached.v1"
LIMIT_BLOCKED: Final = "meterstream.limit.blocked.v1"
LIMIT_RESET: Final = "meterstream.limit.reset.v1"
CREDITS_LOW: Final = "meterstream.credits.low.v1"
CREDITS_EXHAUSTED: Final = "meterstream.credits.exhausted.v1"
CREDITS_EXPIRING: Final = "meterstream.credits.expiring.v1"

MAX_USED: Final = 2**63 - 1
MAX_PARTITIONS: Final = 10_000
"""The most partitions that a heartbeat speaks of."""

Used = Annotated[int, Field(ge=-MAX_USED, le=MAX_USED)]
Offset = Annotated[int, Field(ge=0, le=2**63 - 1)]
Partition = Annotated[int, Field(ge=0, le=2**31 - 1)]
BalanceMicro = Annotated[int, Field(ge=-MAX_USED, le=MAX_USED)]
"""What is left of several grants, or was drawn past all of them: no bound of one grant holds."""
Owners = Literal["teams", "organisations"]
"""Whose limits are told: those of teams, and of what is within them, or those of organisations."""
OWNERS: Final[tuple[Owners, ...]] = get_args(Owners)
ResetReason = Literal["window", "changed", "removed", "corrected", "credited"]
"""Why a limit admits again: its next window began; it was set anew; it was removed; usage was
corrected; credits were granted."""


class Told(Data):
    """Part of what we publish: readers ignore fields that were added since."""

    model_config = ConfigDict(extra="ignore")


class AsOf(Told):
    """Up to where usage was counted.

    Of one topic id and partition, (generation, journal offset) orders two of these;
    `events_position` is the first event that is not counted yet.
    """

    events_topic_id: Annotated[UUID, Field(strict=False)]
    generation: Annotated[int, Field(ge=0, le=2**32 - 1)]
    partition: Partition
    journal_offset: Offset
    events_position: Offset


class Cause(Told):
    """The event whose usage made the difference.

    Of an organisation's limit it is the event of `org-usage` that told it, with its team.
    """

    source: SourceUri
    id: LongId
    offset: Offset
    team_id: Id | None = None


class _OfLimit(Told):
    """Which limit it is, in which window of time."""

    team_id: Id | None = None
    organisation_id: Id | None = None
    limit_id: Id
    limit_version: Version
    subject: SubjectKind
    subject_id: UserId | None = None
    measure: Measure
    window: Window
    window_start: Time
    window_end: Time | None = None
    amount: Amount
    as_of: AsOf


class ThresholdReachedData(_OfLimit):
    """Usage has reached a level, in thousandths of the limit's amount."""

    level_permille: LevelPermille
    used: Used
    cause: Cause | None = None


class LimitBlockedData(_OfLimit):
    """Usage has reached a hard limit: nothing more should be admitted in this window."""

    used: Used
    cause: Cause | None = None


class LimitResetData(_OfLimit):
    """A limit that blocked does not any more: the subject is admitted again."""

    used: Used
    reason: ResetReason
    cause: Cause | None = None


class CreditsLowData(_OfLimit):
    """A team's balance has fallen to a level of a limit on it."""

    level_permille: LevelPermille
    used: Used
    balance_micro: BalanceMicro
    cause: Cause | None = None


class CreditsExhaustedData(Told):
    """A team's balance has fallen to nothing, its overdraft included."""

    team_id: Id
    balance_micro: BalanceMicro
    overdraft_micro: Amount
    as_of: AsOf
    cause: Cause | None = None


class CreditsExpiringData(Told):
    """A grant with something left expires soon."""

    team_id: Id
    grant_id: LongId
    left_micro: GrantMicro
    expires_at: Time
    as_of: AsOf


class _Published(Envelope):
    """What we write ourselves: consumers may rely on the one form of its content type."""

    datacontenttype: Literal["application/json"] | None = None


class ThresholdReached(_Published):
    """A level of a limit was reached."""

    type: Literal["meterstream.usage.threshold.reached.v1"] = THRESHOLD_REACHED
    data: ThresholdReachedData


class LimitBlocked(_Published):
    """A hard limit was reached."""

    type: Literal["meterstream.limit.blocked.v1"] = LIMIT_BLOCKED
    data: LimitBlockedData


class LimitReset(_Published):
    """A limit admits its subject again."""

    type: Literal["meterstream.limit.reset.v1"] = LIMIT_RESET
    data: LimitResetData


class CreditsLow(_Published):
    """A balance is low."""

    type: Literal["meterstream.credits.low.v1"] = CREDITS_LOW
    data: CreditsLowData


class CreditsExhausted(_Published):
    """A balance is used up."""

    type: Literal["meterstream.credits.exhausted.v1"] = CREDITS_EXHAUSTED
    data: CreditsExhaustedData


class CreditsExpiring(_Published):
    """Credits are about to expire."""

    type: Literal["meterstream.credits.expiring.v1"] = CREDITS_EXPIRING
    data: CreditsExpiringData


ThresholdEvent = (
    ThresholdReached | LimitBlocked | LimitReset | CreditsLow | CreditsExhausted | CreditsExpiring
)


class LimitState(_OfLimit):
    """Where a limit stands: a record of `limit-states`, under the key that `state_key` returns."""

    enforcement: Literal["hard", "soft"]
    state: Literal["admitting", "blocked"]
    used: Used
    reached_permille: Annotated[int, Field(ge=0, le=10_000)]
    """The highest level that was reached in this window; 0 if none was."""


class LimitHeartbeat(Told):
    """Up to where a partition's states are told: a record of `limit-states` as well.

    All states up to `as_of` stand before it in its partition. `clock` is the broker's log time up
    to which events were counted, or there were none: what a reader knows is as old as that.

    States of teams and of organisations have heartbeats of their own, told apart by `owners`; one
    of organisations says in `counted` up to where the usage of teams is part of what it tells, for
    each partition of the events topic from which any was.

    A generation tells all limits that there are, with several records where they are many: until
    then `all_told` is false.
    """

    partition: Partition
    owners: Owners = "teams"
    as_of: AsOf
    clock: Time
    all_told: bool = True
    counted: Annotated[tuple[AsOf, ...], Field(strict=False, max_length=MAX_PARTITIONS)] = ()


def threshold_id(event_type: str, *parts: str | int) -> str:
    """Return the id of a threshold event: a hash of its type and of what identifies it.

    For a level of a limit these are owner, limit, version, the window's start as RFC 3339 text and
    the level; for a limit that blocks or admits again owner, limit, version, the window's start,
    the generation and the journal offset; for a balance that is exhausted the team, the generation
    and the journal offset; for a grant the team and the grant. An owner is the team's id, or the
    word organisation and its id, for a team may have the same one. The same crossing always gets
    the same id, whoever computes it.
    """
    text = json.dumps([event_type, *parts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def state_key(limit: LimitState | LimitSetData | LimitRemovedData) -> str:
    """Return the key of a limit's `limit-states` record: the owner's kind and id, the limit's id.

    Under the key of a limit that was removed stands a record without a value (a tombstone).
    """
    owner = (
        ("team", limit.team_id)
        if limit.organisation_id is None
        else ("organisation", limit.organisation_id)
    )
    return json.dumps([*owner, limit.limit_id], ensure_ascii=True, separators=(",", ":"))


def heartbeat_key(partition: int, owners: Owners = "teams") -> str:
    """Return the key of a partition's `limit-states` heartbeat."""
    parts = ["heartbeat", partition] if owners == "teams" else ["heartbeat", partition, owners]
    return json.dumps(parts, separators=(",", ":"))
