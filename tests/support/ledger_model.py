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
    has_begun: bool = False

    def follow(self, before: "SlowPlan | None") -> None:
        """Begin, with the anchor day of the plan before, where this one names none."""
        self.has_begun = True
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
    """In force."""
    plans: list[SlowPlan] = field(default_factory=list)
    """All that were set, but for those that others replaced."""
    period: tuple[int, int] | None = None
    month_end_us: int = 0
    """When the period would end by its anchor day."""
    seen_us: int = 0
    """Up to when all that ends has ended."""
    since_us: int | None = None
    latest_us: int = 0
    """The time of the latest run that was counted before it began."""
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
            due += [plan.starts_us for plan in self.plans if not plan.has_begun]
            ends = [plan.ends_us for plan in self.plans if plan.has_begun]
            due += [ends_us for ends_us in ends if ends_us > self.seen_us]
            if self.period:
                due.append(self.period[1])
            if not due or min(due) > now_us or min(due) == FOREVER_US:
                self.seen_us = max(self.seen_us, now_us)
                return
            self.happen(min(due))
            self.seen_us = max(self.seen_us, min(due))

    def happen(self, at_us: int) -> None:
        """Do all that is due at one moment."""
        times = [one.ends_us if one.has_begun else one.starts_us for one in self.plans]
        has_other = at_us in times and at_us > self.seen_us
        for plan in self.plans:
            if plan.starts_us <= at_us and not plan.has_begun:
                plan.follow(self.plan)
        fresh, carried = self.end_period(at_us)
        for grant in self.live():
            if grant.expires_us <= at_us:
                self.end(grant)
        if fresh:
            self.begin_period(fresh, at_us, carried)
        elif has_other:
            self.change_plan(at_us)
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
        fresh, carried = self.held(at_us), 0
        for grant in self.live():
            if grant.is_allowance:
                if fresh and self.plan:
                    some = min(grant.left, self.plan.rollover_cap - carried)
                    grant.left -= some
                    grant.rolled_over += some
                    carried += some
                self.end(grant)
        self.plan, self.period = fresh, None
        return fresh, carried

    def begin(self, at_us: int) -> None:
        """Begin, behind all runs that were counted before."""
        if self.since_us is None:
            self.since_us = max(at_us, self.latest_us + 1)

    def end(self, grant: SlowGrant) -> None:
        """Let what is left of a grant expire."""
        grant.expired += grant.left
        grant.left, grant.state = 0, "closed"

    def begin_period(self, plan: SlowPlan, at_us: int, carried: int) -> None:
        """Begin a period of a plan."""
        self.plan = plan
        self.begin(at_us)
        self.month_end_us = plan.boundary_us(at_us)
        end_us = min(self.month_end_us, self.covered_us(at_us))
        self.period = at_us, end_us
        name = f"{plan.plan_id}/{text(at_us)}"
        if carried:
            days = plan.rollover_days
            until_us = at_us + days * DAY_US if days else end_us
            grant_id = self.name(f"rollover/{name}")
            self.add(SlowGrant(grant_id, "funded", carried, expires_us=until_us), at_us)
        if plan.allowance:
            grant_id = self.name(f"allowance/{name}")
            grant = SlowGrant(grant_id, "funded", plan.allowance, expires_us=end_us)
            grant.is_allowance = True
            self.add(grant, at_us)

    def name(self, grant_id: str) -> str:
        """Return an id, or one that stands for it where a grant has it already."""
        is_taken = any(grant.grant_id == grant_id for grant in self.grants)
        return f"again/{self.numbers}" if is_taken else grant_id

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
        self.begin(at_us)
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
        self.plans.append(plan)
        if plan.starts_us <= now_us:
            plan.follow(self.plan)
        self.change_plan(now_us)
        self.look("credited")
        self.tick(now_us)

    def held(self, at_us: int) -> SlowPlan | None:
        """Return the plan that began last of those that run at a time."""
        running = [one for one in self.plans if one.starts_us <= at_us < one.ends_us]
        return max(running, key=lambda one: one.starts_us, default=None)

    def covered_us(self, at_us: int) -> int:
        """Return the first time from `at_us` on at which no plan runs."""
        while at_us < FOREVER_US and (plan := self.held(at_us)):
            at_us = plan.ends_us
        return at_us

    def change_plan(self, now_us: int) -> None:
        """Let the plan that is held take effect, now or with the next period."""
        held, before = self.held(now_us), self.plan
        if before is None or self.period is None:
            if held:
                self.begin_period(held, now_us, 0)
            return
        more = 0
        running = [one.starts_us for one in self.plans if one.starts_us <= now_us < one.ends_us]
        if held and (
            held.plan_id == before.plan_id
            or held.allowance >= before.allowance
            or before.starts_us not in running
        ):
            whole_us = self.month_end_us - self.period[0]
            part_us = min(self.month_end_us, held.ends_us) - now_us
            more = (held.allowance - before.allowance) * part_us // whole_us
            self.plan = held
        end_us = max(now_us, min(self.month_end_us, self.covered_us(now_us)))
        self.period = self.period[0], end_us
        for grant in self.live():
            if grant.is_allowance:
                grant.expires_us = end_us
        if more > 0:
            grant = SlowGrant(f"more/{self.numbers}", "funded", more)
            grant.expires_us, grant.is_allowance = end_us, True
            self.add(grant, now_us)

    # --- charges ---

    def charge(self, name: str, amount: int, run_us: int, now_us: int) -> None:
        """Draw a charge of a run of a time."""
        self.tick(now_us)
        if self.since_us is None:
            self.latest_us = max(self.latest_us, run_us)
            return
        if run_us < self.since_us or not amount:
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
