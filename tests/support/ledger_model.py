"""The rules of accounts once more, written for the eye: one team, one charge at a time.

It shares nothing with the meter's ledger. Amounts are micro-credits, times microseconds since 1970.
"""

import calendar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
FOREVER_US = 10_413_705_600_000_000


@dataclass
class SlowGrant:
    """A grant, from its entry on."""

    grant_id: str
    kind: str
    amount: int
    priority: int = 100
    starts_us: int = 0
    expires_us: int = FOREVER_US
    number: int = -1
    left: int = 0
    expired: int = 0
    rolled_over: int = 0
    state: str = "waiting"
    is_allowance: bool = False
    was_told: bool = False


@dataclass
class SlowPlan:
    """A plan, and how a team has it."""

    plan_id: str
    starts_us: int
    ends_us: int
    anchor_day: int | None
    """None: that of the plan before it, else the day of its start."""
    zone: str
    allowance: int
    rollover_cap: int
    rollover_days: int
    overdraft: int

    def follow(self, before: "SlowPlan | None") -> None:
        """Take the anchor day of the plan before, where this one names none."""
        if self.anchor_day is None:
            start = moment(self.starts_us).astimezone(ZoneInfo(self.zone))
            self.anchor_day = before.anchor_day if before else start.day

    def boundary_us(self, after_us: int) -> int:
        """Return the first anchor after a time."""
        assert self.anchor_day is not None, "it is in force"
        return next_anchor_us(after_us, self.anchor_day, self.zone)


def moment(time_us: int) -> datetime:
    """Return a time as a datetime."""
    return EPOCH + timedelta(microseconds=time_us)


def midnight_us(year: int, month: int, day: int, zone: str) -> int:
    """Return when a day begins in a zone."""
    return (datetime(year, month, day, tzinfo=ZoneInfo(zone)) - EPOCH) // timedelta(microseconds=1)


def next_anchor_us(after_us: int, anchor_day: int, zone: str) -> int:
    """Return the first midnight of an anchor day after a time, trying month after month."""
    local = moment(after_us).astimezone(ZoneInfo(zone))
    year, month = local.year, local.month
    while True:
        day = min(anchor_day, calendar.monthrange(year, month)[1])
        if (found := midnight_us(year, month, day, zone)) > after_us:
            return found
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


@dataclass
class SlowAccount:
    """One team's account."""

    grants: list[SlowGrant] = field(default_factory=list)
    plan: SlowPlan | None = None
    next_plan: SlowPlan | None = None
    plans: list[SlowPlan] = field(default_factory=list)
    period: tuple[int, int] | None = None
    since_us: int | None = None
    overdrawn: int = 0
    drawn: int = 0
    granted: int = 0
    lost: int = 0
    """Given back to grants that are gone: expired there."""
    numbers: int = 0
    draws: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    """By charge: (grant_id, kind, amount). Under "" what grants paid of what was overdrawn."""
    notes: list[tuple[object, ...]] = field(default_factory=list)
    is_exhausted: bool = False
    low: tuple[int, list[int]] | None = None
    """An amount, and levels in thousandths of it."""
    low_reached: int = 0

    # --- sums ---

    def live(self) -> list[SlowGrant]:
        """Return the grants that may be drawn, in the order of drawing."""
        found = [grant for grant in self.grants if grant.state == "open"]
        return sorted(found, key=lambda one: (one.priority, one.expires_us, one.number))

    def left(self) -> int:
        """Return what is left of all grants."""
        return sum(grant.left for grant in self.live())

    def balance(self) -> int:
        """Return the balance."""
        return self.left() - self.overdrawn

    def overdraft(self) -> int:
        """Return how far the balance may fall."""
        return self.plan.overdraft if self.plan else 0

    def check(self) -> None:
        """Assert that nothing was lost or made."""
        expired = sum(grant.expired for grant in self.grants) + self.lost
        rolled = sum(grant.rolled_over for grant in self.grants)
        assert self.granted + self.overdrawn == self.drawn + expired + rolled + self.left()

    # --- time ---

    def tick(self, now_us: int) -> None:
        """Let time pass, one thing that is due after the other."""
        while True:
            due = [grant.starts_us for grant in self.grants if grant.state == "waiting"]
            for grant in self.live():
                due.append(grant.expires_us)
                if not grant.was_told:
                    due.append(max(grant.starts_us, grant.expires_us - 7 * DAY_US))
            due += [plan.starts_us for plan in self.plans]
            if self.period:
                due.append(self.period[1])
            if not due or min(due) > now_us or min(due) == FOREVER_US:
                return
            self.happen(min(due))

    def happen(self, at_us: int) -> None:
        """Do all that is due at one moment."""
        fresh, carried = self.end_period(at_us)
        for grant in self.live():
            if grant.expires_us <= at_us:
                self.end(grant)
        if fresh:
            self.begin_period(fresh, at_us, carried)
        for plan in sorted(self.plans, key=lambda one: one.starts_us):
            if plan.starts_us <= at_us:
                self.plans.remove(plan)
                self.take_plan(plan, at_us)
        waiting = [one for one in self.grants if one.state == "waiting" and one.starts_us <= at_us]
        for grant in sorted(waiting, key=lambda one: (one.starts_us, one.number)):
            self.enter(grant, at_us)
        for grant in self.live():
            if not grant.was_told and grant.expires_us - 7 * DAY_US <= at_us:
                grant.was_told = True
                if grant.left:
                    self.notes.append(("expiring", grant.grant_id, grant.left, grant.expires_us))
        self.look("credited")

    def end_period(self, at_us: int) -> tuple[SlowPlan | None, int]:
        """End the period if it is over; return the plan from now on, and what is carried over."""
        if not self.period or self.period[1] > at_us:
            return None, 0
        fresh, carried = self.next_plan or self.plan, 0
        for plan in sorted(self.plans, key=lambda one: one.starts_us):
            if plan.starts_us <= at_us:
                fresh = plan
                fresh.follow(self.plan)
                self.plans.remove(plan)
        if fresh and fresh.ends_us <= at_us:
            fresh = None
        for grant in self.live():
            if grant.is_allowance:
                if fresh and self.plan:
                    some = min(grant.left, self.plan.rollover_cap - carried)
                    grant.left -= some
                    grant.rolled_over += some
                    carried += some
                self.end(grant)
        self.plan, self.next_plan, self.period = fresh, None, None
        return fresh, carried

    def end(self, grant: SlowGrant) -> None:
        """Let what is left of a grant expire."""
        grant.expired += grant.left
        grant.left, grant.state = 0, "closed"

    def begin_period(self, plan: SlowPlan, at_us: int, carried: int) -> None:
        """Begin a period of a plan."""
        self.plan, self.next_plan = plan, None
        self.since_us = at_us if self.since_us is None else self.since_us
        end_us = min(plan.boundary_us(at_us), plan.ends_us)
        self.period = at_us, end_us
        name = f"{plan.plan_id}/{text(at_us)}"
        if carried:
            days = plan.rollover_days
            until_us = at_us + days * DAY_US if days else end_us
            self.add(SlowGrant(f"rollover/{name}", "funded", carried, expires_us=until_us), at_us)
        if plan.allowance:
            grant = SlowGrant(f"allowance/{name}", "funded", plan.allowance, expires_us=end_us)
            grant.is_allowance = True
            self.add(grant, at_us)

    # --- entries ---

    def add(self, grant: SlowGrant, now_us: int) -> None:
        """Take a grant."""
        grant.number = self.numbers
        self.numbers += 1
        self.grants.append(grant)
        if grant.starts_us <= now_us:
            self.enter(grant, now_us)

    def enter(self, grant: SlowGrant, at_us: int) -> None:
        """Let a grant be drawn."""
        grant.state, grant.left, grant.starts_us = "open", grant.amount, at_us
        self.since_us = at_us if self.since_us is None else self.since_us
        self.granted += grant.amount
        if grant.expires_us <= at_us:
            self.end(grant)
            return
        paid = min(self.overdrawn, grant.left)
        if paid:
            self.overdrawn -= paid
            grant.left -= paid
            self.draws.setdefault("", []).append((grant.grant_id, grant.kind, paid))
            self.draws[""].append(("", "overdraft", -paid))
        self.low_reached = min(self.low_reached, self.level())

    def grant(self, grant: SlowGrant, now_us: int) -> None:
        """Take an entry that grants."""
        self.tick(now_us)
        self.add(grant, now_us)
        if grant.state != "waiting":
            self.look("credited")
        self.tick(now_us)

    def subscribe(self, plan: SlowPlan, now_us: int) -> None:
        """Take an entry that subscribes."""
        self.tick(now_us)
        self.plans = [one for one in self.plans if one.starts_us != plan.starts_us]
        if plan.starts_us > now_us:
            self.plans.append(plan)
        else:
            self.take_plan(plan, now_us)
            self.look("credited")
        self.tick(now_us)

    def take_plan(self, plan: SlowPlan, now_us: int) -> None:
        """Let a plan begin, now or with the next period."""
        plan.follow(self.plan)
        if self.plan is None or self.period is None:
            if plan.ends_us > now_us:
                self.begin_period(plan, now_us, 0)
            return
        if plan.plan_id != self.plan.plan_id and plan.allowance < self.plan.allowance:
            self.next_plan = plan
            return
        start_us, end_us = self.period
        more = (plan.allowance - self.plan.allowance) * (end_us - now_us) // (end_us - start_us)
        # A period ends where it was to end when it began, but for an end of the plan before.
        boundary_us = self.plan.boundary_us(now_us) if self.plan.ends_us <= end_us else end_us
        self.period = start_us, max(now_us, min(boundary_us, plan.ends_us))
        self.plan, self.next_plan = plan, None
        for grant in self.live():
            if grant.is_allowance:
                grant.expires_us = self.period[1]
        if more > 0:
            grant = SlowGrant(f"more/{self.numbers}", "funded", more)
            grant.expires_us, grant.is_allowance = self.period[1], True
            self.add(grant, now_us)

    # --- charges ---

    def charge(self, name: str, amount: int, now_us: int) -> None:
        """Draw a charge."""
        self.tick(now_us)
        if self.since_us is None:
            return
        before = self.balance()
        self.take(name, amount)
        if not self.is_exhausted and self.balance() <= -self.overdraft():
            self.is_exhausted = True
            self.notes.append(("exhausted", self.balance(), name))
        self.look_low(name)
        assert self.balance() == before - amount

    def take(self, name: str, amount: int) -> None:
        """Draw an amount from one grant after the other, then from the overdraft."""
        self.drawn += amount
        for grant in self.live():
            some = min(amount, grant.left)
            if some:
                grant.left -= some
                amount -= some
                self.draws.setdefault(name, []).append((grant.grant_id, grant.kind, some))
        if amount:
            self.overdrawn += amount
            self.draws.setdefault(name, []).append(("", "overdraft", amount))

    def correct(self, name: str, amount: int, run_us: int, refund_id: str, now_us: int) -> None:
        """Charge more, or give back, for a run of a time."""
        if self.since_us is None and not self.grants and not self.plans:
            return
        self.tick(now_us)
        if self.since_us is None or run_us < self.since_us:
            return
        if amount > 0:
            self.take(name, amount)
            self.look("corrected")
            return
        rest = -amount
        self.drawn -= rest
        some = min(rest, self.overdrawn)
        if some:
            self.overdrawn -= some
            rest -= some
            self.draws.setdefault(name, []).append(("", "overdraft", -some))
        for grant in self.live()[::-1]:
            some = min(rest, grant.amount - grant.left)
            if some:
                grant.left += some
                rest -= some
                self.draws.setdefault(name, []).append((grant.grant_id, grant.kind, -some))
        if rest:
            self.lost += rest
            self.draws.setdefault(name, []).append(("", "expired", -rest))
            self.add(SlowGrant(refund_id, "refund", rest), now_us)
        self.look("corrected")

    # --- what is told ---

    def level(self) -> int:
        """Return the highest level that the balance has come down to."""
        if self.low is None:
            return 0
        amount, levels = self.low
        gone = amount - self.balance()
        return max((level for level in levels if gone * 1000 >= amount * level), default=0)

    def look(self, reason: str) -> None:
        """Tell what has changed without a charge."""
        if self.since_us is None:
            return
        exhausted = self.balance() <= -self.overdraft()
        if exhausted and not self.is_exhausted:
            self.notes.append(("exhausted", self.balance(), None))
        elif self.is_exhausted and not exhausted:
            self.notes.append(("reset", self.balance(), reason))
        self.is_exhausted = exhausted
        self.look_low(None)

    def look_low(self, name: str | None) -> None:
        """Tell which levels the balance has come down to."""
        if self.low is None or self.since_us is None:
            return
        now = self.level()
        for level in self.low[1]:
            if self.low_reached < level <= now:
                self.notes.append(("low", level, self.balance(), name))
        self.low_reached = max(now, self.low_reached)


def text(time_us: int) -> str:
    """Return a time as the ids of grants have it."""
    return moment(time_us).isoformat().replace("+00:00", "Z")
