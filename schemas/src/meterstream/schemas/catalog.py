"""Catalog events: who and what there is, what it may use, and what it costs.

They travel in the `catalog` topic under the key that `catalog_key` returns. An entry with the same
key takes the place of the one before; cards and plans carry their version in the key, so a price
that was ever charged stays there to be read.
"""

from typing import Annotated, Final, Literal, Self
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from .envelope import Envelope
from .fields import Code, CreditsMicro, Data, Id, Name, Operation, Time, UserId
from .times import format_rfc3339

ORGANISATION_REGISTERED: Final = "meterstream.organisation.registered.v1"
TEAM_REGISTERED: Final = "meterstream.team.registered.v1"
USER_REGISTERED: Final = "meterstream.user.registered.v1"
MEMBERSHIP_CHANGED: Final = "meterstream.membership.changed.v1"
AGENT_REGISTERED: Final = "meterstream.agent.registered.v1"
PROJECT_REGISTERED: Final = "meterstream.project.registered.v1"
FEATURE_REGISTERED: Final = "meterstream.feature.registered.v1"
PLAN_PUBLISHED: Final = "meterstream.plan.published.v1"
RATE_CARD_PUBLISHED: Final = "meterstream.rate-card.published.v1"

DEFAULT_CARD: Final = "default"
"""The name of the rate card that prices runs."""
MAX_POOL_MICRO: Final = 1_000_000_000_000_000
"""A billion credits: the most that one grant, allowance or balance holds."""
MAX_PRICE_MICRO: Final = 1_000_000_000_000
"""A million credits for one unit of a price line."""
MAX_PERMILLE: Final = 1_000_000
"""A multiplier of one thousand."""
MAX_PRICE_LINES: Final = 500
MAX_DAYS: Final = 36_500


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PydanticCustomError("invalid_text", "not the name of a time zone") from None
    return name


Zone = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"),
    AfterValidator(_known_zone),
]
"""The IANA name of a time zone, such as Europe/Berlin.

Who validates catalog entries brings zone files: the system's, or the package tzdata.
"""
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""An ISO 4217 code."""
Version = Annotated[int, Field(ge=1, le=1_000_000)]
PoolMicro = Annotated[int, Field(ge=0, le=MAX_POOL_MICRO)]
PriceMicro = Annotated[int, Field(ge=0, le=MAX_PRICE_MICRO)]
Permille = Annotated[int, Field(ge=0, le=MAX_PERMILLE)]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]
Role = Literal["member", "admin", "finance"]
Tier = Literal["individual", "team", "enterprise"]


class OrganisationRegisteredData(Data):
    """An organisation, which may be part of another one.

    The days and months of its limits begin at midnight in its zone.
    """

    organisation_id: Id
    name: Name
    parent_id: Id | None = None
    zone: Zone = "UTC"

    @model_validator(mode="after")
    def _is_not_its_own_parent(self) -> Self:
        if self.parent_id == self.organisation_id:
            raise PydanticCustomError("inconsistent", "parent_id is the organisation itself")
        return self


class TeamRegisteredData(Data):
    """A team: what is charged. Its days and months begin at midnight in its zone."""

    team_id: Id
    organisation_id: Id
    name: Name
    zone: Zone


class UserRegisteredData(Data):
    """A user, as reports name them."""

    user_id: UserId
    email: Email
    display_name: Name


class MembershipChangedData(Data):
    """A user has a role in a team, or in an organisation, from one moment until another.

    A membership ends by being sent again with the same `valid_from` and a `valid_until`.
    """

    user_id: UserId
    team_id: Id | None = None
    organisation_id: Id | None = None
    role: Role
    valid_from: Time
    valid_until: Time | None = None

    @model_validator(mode="after")
    def _in_one_place_for_a_while(self) -> Self:
        if (self.team_id is None) == (self.organisation_id is None):
            raise PydanticCustomError(
                "inconsistent", "exactly one of team_id and organisation_id is needed"
            )
        if self.valid_until is not None and self.valid_until <= self.valid_from:
            raise PydanticCustomError("inconsistent", "valid_until does not lie after valid_from")
        return self


class AgentRegisteredData(Data):
    """An agent; `agent_type` is what rate cards ask for."""

    agent_id: Id
    name: Name
    agent_type: Code
    created_by: UserId
    created_at: Time
    team_id: Id | None = None


class ProjectRegisteredData(Data):
    """A project of a team."""

    project_id: Id
    team_id: Id
    name: Name


class FeatureRegisteredData(Data):
    """A feature of the platform; premium ones may cost a multiple."""

    feature_id: Id
    name: Name
    premium: bool = False


class PlanPublishedData(Data):
    """One version of a plan: what a team that subscribes to it gets each period (a month).

    Of an allowance that was not used, up to `rollover_cap_micro` is carried into the next period
    and lasts `rollover_expiry_days` there; without it, as long as that period. `overdraft_micro` is
    how far a balance may fall below zero. `retention_days` is how long single runs are kept.
    """

    plan_id: Id
    version: Version
    name: Name
    tier: Tier
    allowance_credits_micro: PoolMicro
    rollover_cap_micro: PoolMicro = 0
    rollover_expiry_days: Days | None = None
    retention_days: Days = 90
    features: Annotated[tuple[Id, ...], Field(strict=False, max_length=200)] = ()
    overdraft_micro: PoolMicro = 0


class UnitPrices(Data):
    """What one unit of each kind costs: a run, a thousand tokens, a million bytes.

    Without a price of their own, cached tokens cost what input tokens cost, and reasoning tokens
    what output tokens cost.
    """

    run_micro: PriceMicro = 0
    input_micro_per_1k: PriceMicro = 0
    output_micro_per_1k: PriceMicro = 0
    cached_micro_per_1k: PriceMicro | None = None
    reasoning_micro_per_1k: PriceMicro | None = None
    request_micro_per_mb: PriceMicro = 0
    response_micro_per_mb: PriceMicro = 0


class PriceLine(UnitPrices):
    """What a run costs that matches all of the line's criteria; an absent criterion matches any.

    The line with the most criteria wins, and of those the first. Its own prices are micro-credits;
    `amount` is the price in millionths of the card's currency, and `cost` what the provider takes,
    in the same unit. An API call or the use of a feature is a run of that `operation`.
    """

    operation: Operation | None = None
    provider: Name | None = None
    model: Name | None = None
    feature_id: Id | None = None
    agent_type: Code | None = None
    amount: UnitPrices | None = None
    cost: UnitPrices | None = None


_Sizes = Annotated[dict[Code, CreditsMicro], Field(max_length=100)]


class RateCardPublishedData(Data):
    """One version of a rate card. Of the cards in effect at a run's time the latest prices it.

    Multipliers are in thousandths: 1000 leaves a price as it is. One of `agent_type` and the one
    of premium features multiply each other where both apply; they raise what is charged, and not
    the provider's cost. Sessions are priced by the size of their machine: a size that is not named
    is unpriced if others are. All versions of a card that name a currency name the same.
    """

    name: Id
    version: Version
    currency: Currency | None = None
    effective_from: Time
    prices: Annotated[tuple[PriceLine, ...], Field(strict=False, max_length=MAX_PRICE_LINES)]
    session_micro_per_second: _Sizes = Field(default_factory=dict)
    session_amount_micro_per_second: _Sizes = Field(default_factory=dict)
    session_cost_micro_per_second: _Sizes = Field(default_factory=dict)
    agent_type_multiplier_permille: Annotated[dict[Code, Permille], Field(max_length=100)] = Field(
        default_factory=dict
    )
    premium_multiplier_permille: Permille = 1000

    @model_validator(mode="after")
    def _money_has_a_currency(self) -> Self:
        in_money = (self.session_amount_micro_per_second, self.session_cost_micro_per_second)
        if self.currency is None and (
            any(in_money) or any(line.amount or line.cost for line in self.prices)
        ):
            raise PydanticCustomError("inconsistent", "amount and cost need a currency")
        if any(sizes.keys() - self.session_micro_per_second.keys() for sizes in in_money):
            raise PydanticCustomError(
                "inconsistent", "session_micro_per_second does not name each machine size"
            )
        return self

    @property
    def label(self) -> str:
        """The card as charges name it: name@version."""
        return f"{self.name}@{self.version}"


class OrganisationRegistered(Envelope):
    """An organisation is there, or has changed."""

    type: Literal["meterstream.organisation.registered.v1"] = ORGANISATION_REGISTERED
    data: OrganisationRegisteredData


class TeamRegistered(Envelope):
    """A team is there, or has changed."""

    type: Literal["meterstream.team.registered.v1"] = TEAM_REGISTERED
    data: TeamRegisteredData


class UserRegistered(Envelope):
    """A user is there, or has changed."""

    type: Literal["meterstream.user.registered.v1"] = USER_REGISTERED
    data: UserRegisteredData


class MembershipChanged(Envelope):
    """A user's role in a team or organisation."""

    type: Literal["meterstream.membership.changed.v1"] = MEMBERSHIP_CHANGED
    data: MembershipChangedData


class AgentRegistered(Envelope):
    """An agent is there, or has changed."""

    type: Literal["meterstream.agent.registered.v1"] = AGENT_REGISTERED
    data: AgentRegisteredData


class ProjectRegistered(Envelope):
    """A project is there, or has changed."""

    type: Literal["meterstream.project.registered.v1"] = PROJECT_REGISTERED
    data: ProjectRegisteredData


class FeatureRegistered(Envelope):
    """A feature is there, or has changed."""

    type: Literal["meterstream.feature.registered.v1"] = FEATURE_REGISTERED
    data: FeatureRegisteredData


class PlanPublished(Envelope):
    """A version of a plan."""

    type: Literal["meterstream.plan.published.v1"] = PLAN_PUBLISHED
    data: PlanPublishedData


class RateCardPublished(Envelope):
    """A version of a rate card."""

    type: Literal["meterstream.rate-card.published.v1"] = RATE_CARD_PUBLISHED
    data: RateCardPublishedData


CatalogEvent = (
    OrganisationRegistered
    | TeamRegistered
    | UserRegistered
    | MembershipChanged
    | AgentRegistered
    | ProjectRegistered
    | FeatureRegistered
    | PlanPublished
    | RateCardPublished
)


_KEYS: Final[dict[str, tuple[str, ...]]] = {
    ORGANISATION_REGISTERED: ("organisation", "organisation_id"),
    TEAM_REGISTERED: ("team", "team_id"),
    USER_REGISTERED: ("user", "user_id"),
    AGENT_REGISTERED: ("agent", "agent_id"),
    PROJECT_REGISTERED: ("project", "project_id"),
    FEATURE_REGISTERED: ("feature", "feature_id"),
    PLAN_PUBLISHED: ("plan", "plan_id", "version"),
    RATE_CARD_PUBLISHED: ("rate-card", "name", "version"),
}


def _key_parts(event: CatalogEvent) -> list[str]:
    if isinstance(event, MembershipChanged):
        member = event.data
        place = (
            ["organisation", member.organisation_id or ""]
            if member.team_id is None
            else ["team", member.team_id]
        )
        return ["membership", member.user_id, *place, format_rfc3339(member.valid_from)]
    kind, *fields = _KEYS[event.type]
    return [kind, *(str(getattr(event.data, field)) for field in fields)]


def plan_key(plan_id: str, version: int) -> str:
    """Return the key of a version of a plan."""
    return "/".join(quote(part, safe="") for part in ("plan", plan_id, str(version)))


def catalog_key(event: CatalogEvent) -> str:
    """Return the key of a catalog event, such as `team/t-1` or `rate-card/default/3`.

    What is not a letter, a digit or one of `_.-~` in a name is percent-encoded, so that no two
    things share a key.
    """
    return "/".join(quote(part, safe="") for part in _key_parts(event))
