"""Accounts: what a team was granted, what is left of it, and what it owes.

Of every account holds, to the micro-credit: granted + overdrawn = drawn + expired + rolled over
+ left. A rollover leaves the old grant as rolled over and enters as a grant of its own.
"""

from bisect import insort
from dataclasses import dataclass, field, replace
from typing import Final

from .policy import DAY_US

NEVER: Final = 10_413_705_600_000_000
"""The end of 2299, the last day that ClickHouse writes: what is later does not come."""

WARNING_US: Final = 7 * DAY_US
"""How long before it expires it is told of a grant that something of it is left."""

AS_BEFORE: Final = 0
"""The anchor day of a subscription that names none: the one that the team has, else the day of its
start."""

OVERDRAFT: Final = "overdraft"
"""The kind of draws that no grant covers, or that a later grant pays."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Credits that may be drawn. Amounts in micro-credits, times in microseconds since 1970."""

    grant_id: str
    kind: str
    priority: int
    amount: int
    expires_us: int
    starts_us: int
    """When it entered the account, or will."""
    number: int
    """Its place in the order of granting."""
    left: int
    is_allowance: bool = False
    """Whether it is the allowance of a period, which may be carried over at its end."""
    is_told: bool = False
    """Whether it was time to tell that it will expire."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place in the order of drawing: by priority, then expiry, then granting."""
        return self.priority, self.expires_us, self.number


@dataclass(frozen=True, slots=True)
class Term:
    """A version of a plan that a team has from one moment until another."""

    plan_id: str
    plan_version: int
    starts_us: int
    ends_us: int
    anchor_day: int
    """1 to 31, or AS_BEFORE until it is in force."""
    zone: str
    allowance: int
    rollover_cap: int
    rollover_days: int
    """How long what is carried over lasts; 0: as long as the period it is carried into."""
    overdraft: int


@dataclass(slots=True)
class Account:
    """The account of one team. Who changes one copies it before."""

    team_id: str
    since_us: int = NEVER
    """When its first grant entered or its first subscription began: what was charged from then on
    is drawn."""
    open: list[Grant] = field(default_factory=list)
    """Those with something left, in the order of drawing."""
    spent: list[Grant] = field(default_factory=list)
    """Those without, until they expire: corrections may give back to them."""
    waiting: list[Grant] = field(default_factory=list)
    """Those that start later."""
    granted: int = 0
    drawn: int = 0
    expired: int = 0
    rolled_over: int = 0
    overdrawn: int = 0
    """What was drawn and no grant has paid yet."""
    left: int = 0
    """Of all open grants."""
    term: Term | None = None
    """In force."""
    begun: list[Term] = field(default_factory=list)
    """Those that have begun and have not ended, by their beginning: the last is the one that the
    team has. It is in force, unless it is of a smaller plan and waits for the next period."""
    terms: list[Term] = field(default_factory=list)
    """Those that begin later, by their beginning."""
    period_start_us: int = 0
    period_end_us: int = NEVER
    month_end_us: int = NEVER
    """When the period would end by its anchor day; it ends earlier where no plan goes on."""
    refilled_us: int = 0
    """When something was granted last."""
    next_number: int = 0
    is_exhausted: bool = False
    due_us: int = NEVER
    """When something happens to it next by time alone."""
    levels: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By limit on the balance: its version, and the highest level that was reached; 0 if none."""

    def copy(self) -> "Account":
        """Return an account that may be changed without changing this one."""
        other = replace(self)
        other.open, other.spent = self.open.copy(), self.spent.copy()
        other.waiting = self.waiting.copy()
        other.begun, other.terms = self.begun.copy(), self.terms.copy()
        other.levels = self.levels.copy()
        return other

    @property
    def has_begun(self) -> bool:
        """Whether charges are drawn."""
        return self.since_us != NEVER

    @property
    def balance(self) -> int:
        """What is left less what is owed."""
        return self.left - self.overdrawn

    @property
    def overdraft(self) -> int:
        """How far the balance may fall below zero."""
        return 0 if self.term is None else self.term.overdraft

    @property
    def headroom(self) -> int:
        """How much may be drawn until the account is exhausted; 0 or less where it is."""
        return self.balance + self.overdraft

    @property
    def difference(self) -> int:
        """What is missing from its conservation: always 0."""
        spent = self.drawn + self.expired + self.rolled_over + self.left
        return self.granted + self.overdrawn - spent

    def add(self, grant: Grant) -> None:
        """Put a grant in its place, by what is left of it."""
        if grant.left:
            insort(self.open, grant, key=lambda one: one.order)
        else:
            self.spent.append(grant)

    def swap(self, old: Grant, new: Grant) -> None:
        """Put a grant in the place of what it was before."""
        (self.open if old.left else self.spent).remove(old)
        self.left += new.left - old.left
        self.add(new)

    def remove(self, grant: Grant) -> None:
        """Take a grant out, with what is left of it."""
        (self.open if grant.left else self.spent).remove(grant)
        self.left -= grant.left


def due_of(account: Account) -> int:
    """Return when something happens to an account by time alone; NEVER if nothing does."""
    times = [account.period_end_us]
    times += [term.starts_us for term in account.terms[:1]]
    times += [term.ends_us for term in account.begun]
    times += [grant.starts_us for grant in account.waiting]
    for grants in (account.open, account.spent):
        times += [
            grant.expires_us
            if grant.is_told
            else max(grant.starts_us, grant.expires_us - WARNING_US)
            for grant in grants
        ]
    return min(times)
