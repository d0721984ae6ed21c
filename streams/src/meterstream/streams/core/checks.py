"""What a control event is about: whether the partition knows it, and whether it can still hold."""

from typing import Final

from meterstream.schemas.catalog import PlanPublishedData
from meterstream.schemas.control import (
    ControlEvent,
    CreditsGranted,
    SubscriptionChanged,
    UsageAdjusted,
    UsageVoided,
)
from meterstream.schemas.registry import InvalidEvent
from meterstream.schemas.times import to_us
from meterstream.schemas.verdicts import Verdict

from .accounts import NEVER
from .corrections import Counted
from .entries import Entries
from .policy import DAY_US
from .state import PartitionState

MAX_GRANTED_MICRO: Final = 4 * 10**18
"""What one account may be granted in all: with the periods to come it stays within 64 bits."""
_FIRST_US: Final = 365 * DAY_US
_LAST_US: Final = NEVER - 365 * DAY_US
"""Periods are computed a month ahead, and must not leave the calendar or ClickHouse's times."""


class Checks:
    """What the control events of one record are about, one after the other."""

    def __init__(self, state: PartitionState, entries: Entries) -> None:
        """`entries` are those of the catalog with the record."""
        self._state = state
        self._entries = entries
        self._corrected: dict[str, int] = {}
        """By team, what corrections before add to what was drawn."""
        self._granted: dict[str, int] = {}
        """By team, what it was granted, or will be, with the entries before."""

    def __call__(self, event: ControlEvent, replaces: bool) -> None:
        """Raise InvalidEvent where an event is about something unknown, or comes too late.

        `replaces` tells whether it takes the place of one of its name, such as a subscription. An
        event that passes is taken.
        """
        state = self._state
        if isinstance(event, UsageAdjusted | UsageVoided):
            horizon_us = state.policy.horizon_us
            Counted(state.dedup, horizon_us, state.clock_us, state.ids_since_us).check(event)
            self._check_drawn(event)
        elif isinstance(event, SubscriptionChanged):
            plan = _check_subscription(state, self._entries, event, replaces)
            if event.data.ends_at != event.data.starts_at:  # a cancelled one grants nothing
                self._check_granted(event.data.team_id, "plan_id", plan.allowance_credits_micro)
        elif isinstance(event, CreditsGranted):
            _check_grant(state, event)
            self._check_granted(event.data.team_id, "amount_micro", event.data.amount_micro)

    def _check_drawn(self, event: UsageAdjusted | UsageVoided) -> None:
        """An account gives back no more than was drawn from it."""
        data = event.data
        account = self._state.ledger.get(data.team_id)
        if account is None or to_us(data.original_time) < account.since_us:
            return
        added = self._corrected.get(data.team_id, 0) + data.credits_micro
        if account.drawn + added < 0:
            raise _refused(
                "data.credits_micro: takes back more than the team was ever charged on its account"
            )
        self._corrected[data.team_id] = added

    def _check_granted(self, team_id: str, field: str, amount_micro: int) -> None:
        """An account has no more than can be counted, also if all comes at one moment."""
        granted = self._granted.get(team_id)
        if granted is None:
            account = self._state.ledger.get(team_id)
            waiting = () if account is None else account.waiting
            granted = sum(one.amount for one in waiting)
            granted += 0 if account is None else account.granted
        if granted + amount_micro > MAX_GRANTED_MICRO:
            raise _refused(f"data.{field}: {team_id} would be granted more than can be counted")
        self._granted[team_id] = granted + amount_micro


def _check_subscription(
    state: PartitionState, entries: Entries, event: SubscriptionChanged, replaces: bool
) -> PlanPublishedData:
    """Return the plan that it is to."""
    data = event.data
    plan = entries.plan(data.plan_id, data.plan_version)
    if plan is None:
        raise _refused(
            "data.plan_version: the catalog has no such version of this plan; publish it first"
        )
    starts_us = to_us(data.starts_at)
    if not _FIRST_US <= starts_us <= _LAST_US:
        raise _refused("data.starts_at: must lie between 1971 and 2298")
    if data.ends_at is None or replaces:
        return plan
    if data.ends_at <= data.starts_at:
        raise _refused("data.starts_at: no subscription of this team starts then: none to cancel")
    if to_us(data.ends_at) <= state.clock_us:
        raise _refused("data.ends_at: lies in the past, and ends no subscription that there is")
    return plan


def _check_grant(state: PartitionState, event: CreditsGranted) -> None:
    data = event.data
    if data.expires_at is not None and to_us(data.expires_at) <= state.clock_us:
        raise _refused("data.expires_at: lies in the past")


def _refused(detail: str) -> InvalidEvent:
    return InvalidEvent(Verdict.NOT_ALLOWED, detail)
