"""Control events: what a team subscribes to, is granted and may use, and what is put right.

They travel in the `control` topic, keyed by team as events are, so that a team's usage and what
governs it are decided in one place. Limits of an organisation are keyed by the organisation.
"""

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from .catalog import MAX_POOL_MICRO, Version, Zone
from .envelope import Envelope
from .fields import (
    MAX_BYTES,
    MAX_CREDITS_MICRO,
    MAX_DURATION_US,
    MAX_TOKENS,
    Data,
    Id,
    LongId,
    Name,
    Operation,
    SourceUri,
    Text,
    Time,
    UserId,
)

SUBSCRIPTION_CHANGED: Final = "meterstream.subscription.changed.v1"
CREDITS_GRANTED: Final = "meterstream.credits.granted.v1"
LIMIT_SET: Final = "meterstream.limit.set.v1"
LIMIT_REMOVED: Final = "meterstream.limit.removed.v1"
USAGE_ADJUSTED: Final = "meterstream.usage.adjusted.v1"
USAGE_VOIDED: Final = "meterstream.usage.voided.v1"
IMPORT_OPENED: Final = "meterstream.import.opened.v1"
IMPORT_CLOSED: Final = "meterstream.import.closed.v1"

MAX_LIMIT_AMOUNT: Final = MAX_POOL_MICRO
MAX_LEVEL_PERMILLE: Final = 10_000
MAX_LEVELS: Final = 10
CREDITS_LIMIT: Final = "credits"
"""The limit_id under which a team's balance is published; no limit that is set may have it."""
OWN_GRANTS: Final = ("allowance/", "rollover/", "refund/")
"""Grant ids that begin so are made by the meter itself."""

GrantKind = Literal["funded", "reward", "promotional", "top_up", "refund"]
Measure = Literal["credits", "tokens", "runs", "api_calls", "sessions"]
"""What a limit counts; credits are counted in millionths."""
Window = Literal["day", "month", "balance"]
"""`day` and `month` in the team's zone; `balance` is what is left of all grants."""
SubjectKind = Literal["team", "user", "agent", "project", "feature", "organisation"]

GrantMicro = Annotated[int, Field(ge=1, le=MAX_POOL_MICRO)]
Priority = Annotated[int, Field(ge=0, le=1000)]
Amount = Annotated[int, Field(ge=0, le=MAX_LIMIT_AMOUNT)]
LevelPermille = Annotated[int, Field(ge=1, le=MAX_LEVEL_PERMILLE)]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
SignedTokens = Annotated[int, Field(ge=-MAX_TOKENS, le=MAX_TOKENS)]
SignedBytes = Annotated[int, Field(ge=-MAX_BYTES, le=MAX_BYTES)]
SignedCreditsMicro = Annotated[int, Field(ge=-MAX_CREDITS_MICRO, le=MAX_CREDITS_MICRO)]
SignedUs = Annotated[int, Field(ge=-MAX_DURATION_US, le=MAX_DURATION_US)]
SignedRuns = Annotated[int, Field(ge=-1, le=1)]
TakenUs = Annotated[int, Field(ge=-MAX_DURATION_US, le=0)]
OneRunLess = Annotated[int, Field(ge=-1, le=-1)]
AnchorDay = Annotated[int, Field(ge=1, le=31)]


class SubscriptionChangedData(Data):
    """A team has a version of a plan from one moment, until another or for good.

    Periods are months that begin at midnight of `anchor_day` in `zone`; in a month that has no such
    day, on its last. Without them it is the day of `starts_at`, and the zone of the team.

    It replaces the team's subscription of the same `starts_at`, and cancels it where `ends_at` is
    that as well.
    """

    team_id: Id
    plan_id: Id
    plan_version: Version
    starts_at: Time
    ends_at: Time | None = None
    anchor_day: AnchorDay | None = None
    zone: Zone | None = None
    organisation_id: Id | None = None

    @model_validator(mode="after")
    def _ends_at_its_start_or_later(self) -> Self:
        if self.ends_at is not None and self.ends_at < self.starts_at:
            raise PydanticCustomError("inconsistent", "ends_at lies before starts_at")
        return self


class CreditsGrantedData(Data):
    """Credits for a team. Grants of a lower priority are drawn first, then those that expire first.

    A grant is drawn from `starts_at` on, at once without it, and until `expires_at`, for good
    without it. `refund_of` names the run that a refund pays back.
    """

    team_id: Id
    grant_id: LongId
    kind: GrantKind
    amount_micro: GrantMicro
    priority: Priority = 100
    starts_at: Time | None = None
    expires_at: Time | None = None
    refund_of: LongId | None = None
    note: Text | None = None

    @model_validator(mode="after")
    def _only_refunds_pay_back(self) -> Self:
        if self.refund_of is not None and self.kind != "refund":
            raise PydanticCustomError("inconsistent", "refund_of belongs to the kind refund")
        return self

    @model_validator(mode="after")
    def _is_named_by_who_grants_it(self) -> Self:
        if self.grant_id.startswith(OWN_GRANTS):
            raise PydanticCustomError(
                "inconsistent", "grant_id begins as those of grants that the meter makes itself"
            )
        return self

    @model_validator(mode="after")
    def _expires_after_its_start(self) -> Self:
        starts_at, expires_at = self.starts_at, self.expires_at
        if starts_at is not None and expires_at is not None and expires_at <= starts_at:
            raise PydanticCustomError("inconsistent", "expires_at does not lie after starts_at")
        return self


class _OfTeamOrOrganisation(Data):
    team_id: Id | None = None
    organisation_id: Id | None = None

    @model_validator(mode="after")
    def _has_one_owner(self) -> Self:
        if (self.team_id is None) == (self.organisation_id is None):
            raise PydanticCustomError(
                "inconsistent", "exactly one of team_id and organisation_id is needed"
            )
        return self


class LimitSetData(_OfTeamOrOrganisation):
    """How much a subject may use in a window, and at which levels somebody is told.

    `subject_id` names a user, agent, project or feature within the team; it is absent for the team
    or organisation itself. `amount` counts in the measure's unit: micro-credits, tokens, runs,
    calls, sessions. Levels are in thousandths of it. A hard limit also blocks at 1000. On a balance
    a level is reached when so much of `amount` is no longer there: 800 when a fifth of it is left.
    """

    limit_id: Id
    version: Version
    subject: SubjectKind
    subject_id: UserId | None = None
    measure: Measure
    window: Window
    amount: Amount
    alert_levels_permille: Annotated[
        tuple[LevelPermille, ...], Field(strict=False, max_length=MAX_LEVELS)
    ] = (1000,)
    enforcement: Literal["hard", "soft"] = "soft"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.limit_id == CREDITS_LIMIT:
            raise PydanticCustomError("inconsistent", "limit_id: credits stands for the balance")
        if (self.subject == "organisation") != (self.organisation_id is not None):
            raise PydanticCustomError(
                "inconsistent", "organisation_id belongs to the subject organisation"
            )
        if (self.subject in ("team", "organisation")) != (self.subject_id is None):
            raise PydanticCustomError(
                "inconsistent", "subject_id names a user, agent, project or feature, nothing else"
            )
        if self.window == "balance" and (self.measure, self.subject) != ("credits", "team"):
            raise PydanticCustomError("inconsistent", "a balance is a team's and is in credits")
        if self.window == "balance" and self.enforcement == "hard":
            raise PydanticCustomError(
                "inconsistent", "enforcement: a balance blocks by itself, so its limits are soft"
            )
        levels = self.alert_levels_permille
        if any(later <= level for level, later in pairwise(levels)):
            raise PydanticCustomError("inconsistent", "alert_levels_permille do not ascend")
        return self


class LimitRemovedData(_OfTeamOrOrganisation):
    """A limit no longer holds. `version` is one above the version that it ends."""

    limit_id: Id
    version: Version


class _CorrectionData(Data):
    """The run that is put right: its event, and the cell that it was counted in.

    `original_source` and `original_id` are the source and id of its event, `original_time` that
    event's time, `card` what its charge was priced by.
    """

    team_id: Id
    original_source: SourceUri
    original_id: LongId
    original_time: Time
    run_id: LongId
    session_id: LongId | None = None
    operation: Operation
    user_id: UserId | None = None
    project_id: Id | None = None
    agent_id: Id | None = None
    model: Name | None = None
    provider: Name | None = None
    feature_id: Id | None = None
    product: Name | None = None
    card: Name
    reason: Text | None = None


class UsageAdjustedData(_CorrectionData):
    """What is added to, or taken from, the usage that a run was counted with.

    Adjustments of a run are numbered from 1, so that one that is sent again counts once. The run
    itself stays counted. `unpriced_runs` is -1 where a run gets the price that none had for it.
    """

    number: Number
    errors: SignedRuns = 0
    unpriced_runs: SignedRuns = 0
    input_tokens: SignedTokens = 0
    output_tokens: SignedTokens = 0
    cached_tokens: SignedTokens = 0
    reasoning_tokens: SignedTokens = 0
    credits_micro: SignedCreditsMicro = 0
    amount_micro: SignedCreditsMicro = 0
    cost_micro: SignedCreditsMicro = 0
    duration_us: SignedUs = 0
    request_bytes: SignedBytes = 0
    response_bytes: SignedBytes = 0


class UsageVoidedData(_CorrectionData):
    """A run that was counted is taken back as a whole; two voids of one run are one.

    All amounts are what it was counted with, adjustments included, with the sign turned round.
    `first_token_us` is absent where the run told no time to first token.
    """

    runs: OneRunLess = -1
    errors: SignedRuns
    unpriced_runs: SignedRuns
    input_tokens: SignedTokens
    output_tokens: SignedTokens
    cached_tokens: SignedTokens
    reasoning_tokens: SignedTokens
    credits_micro: SignedCreditsMicro
    amount_micro: SignedCreditsMicro = 0
    cost_micro: SignedCreditsMicro = 0
    duration_us: SignedUs
    request_bytes: SignedBytes
    response_bytes: SignedBytes
    latency_us: TakenUs
    first_token_us: TakenUs | None = None


class ImportOpenedData(Data):
    """Events of a source from `time_from` up to, not including, `time_to` may come late.

    While the import is open, those events are not too old to count, and their ids are kept.
    """

    team_id: Id
    import_id: LongId
    source: SourceUri
    time_from: Time
    time_to: Time

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.time_to <= self.time_from:
            raise PydanticCustomError("inconsistent", "time_to does not lie after time_from")
        return self


class ImportClosedData(Data):
    """No further event of an import is taken."""

    team_id: Id
    import_id: LongId


class SubscriptionChanged(Envelope):
    """A team's plan."""

    type: Literal["meterstream.subscription.changed.v1"] = SUBSCRIPTION_CHANGED
    data: SubscriptionChangedData


class CreditsGranted(Envelope):
    """Credits for a team."""

    type: Literal["meterstream.credits.granted.v1"] = CREDITS_GRANTED
    data: CreditsGrantedData

    @model_validator(mode="after")
    def _expires_later(self) -> Self:
        if self.data.expires_at is not None and self.data.expires_at <= self.time:
            raise PydanticCustomError("inconsistent", "expires_at does not lie after time")
        return self


class LimitSet(Envelope):
    """A limit, or its next version."""

    type: Literal["meterstream.limit.set.v1"] = LIMIT_SET
    data: LimitSetData


class LimitRemoved(Envelope):
    """The end of a limit."""

    type: Literal["meterstream.limit.removed.v1"] = LIMIT_REMOVED
    data: LimitRemovedData


class UsageAdjusted(Envelope):
    """A correction of what a run used."""

    type: Literal["meterstream.usage.adjusted.v1"] = USAGE_ADJUSTED
    data: UsageAdjustedData


class UsageVoided(Envelope):
    """A run that is taken back."""

    type: Literal["meterstream.usage.voided.v1"] = USAGE_VOIDED
    data: UsageVoidedData


class ImportOpened(Envelope):
    """The beginning of an import of history."""

    type: Literal["meterstream.import.opened.v1"] = IMPORT_OPENED
    data: ImportOpenedData


class ImportClosed(Envelope):
    """The end of an import of history."""

    type: Literal["meterstream.import.closed.v1"] = IMPORT_CLOSED
    data: ImportClosedData


ControlEvent = (
    SubscriptionChanged
    | CreditsGranted
    | LimitSet
    | LimitRemoved
    | UsageAdjusted
    | UsageVoided
    | ImportOpened
    | ImportClosed
)


def control_key(event: ControlEvent) -> str:
    """Return the key of a control event: its team, or the organisation that a limit is for."""
    data = event.data
    if isinstance(data, LimitSetData | LimitRemovedData):
        key = data.team_id or data.organisation_id
        assert key is not None, "the model asks for one of the two"
        return key
    return data.team_id
