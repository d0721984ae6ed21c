"""A book: one account while a record is decided, entry by entry and charge by charge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import CREDITS_LIMIT
from meterstream.schemas.times import format_rfc3339, from_us

from .accounts import NEVER, OVERDRAFT, WARNING_US, Account, Grant, Term, due_of
from .balances import BalanceLimit
from .beginnings import CountedBefore
from .draws import NO_CHARGE, Draws
from .limits import Limit
from .periods import period_end
from .policy import DAY_US
from .terms import advance, covered_until, held, is_over, put

_I64 = NDArray[np.int64]

ALLOWANCE_PRIORITY: Final = 100
GONE: Final = "expired"
"""The kind of what corrections give back to grants that have expired."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is to be told of an account, and the row of the charge that caused it."""

    told: dict[str, Any]
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A grant that has left its account: what of it expired, and what was carried over."""

    grant: Grant
    expired: int
    rolled_over: int


class Book:
    """One account, opened for a record. Times must not go back from call to call."""

    def __init__(
        self,
        account: Account,
        limits: Sequence[Limit],
        draws: Draws,
        counted: CountedBefore = CountedBefore(),  # noqa: B008 - it is immutable
    ) -> None:
        """`limits` are those on the team's balance; `account` may be changed.

        `counted` is needed where it has not begun.
        """
        self.account = account
        self.notes: list[Note] = []
        self.closed: list[Closed] = []
        self._limits = limits
        self._draws = draws
        self._counted = counted

    # --- what time does ---

    def settle(self, to_us: int) -> None:
        """Bring the account to a time: what expires, begins, ends and starts up to it."""
        while (at_us := due_of(self.account)) <= to_us:
            self._pass(at_us)

    def _pass(self, at_us: int) -> None:
        account = self.account
        has_other = advance(account, at_us)
        following, carried = None, 0
        if account.period_end_us <= at_us:
            following, carried = self._end_period()
        for grant in [*account.open, *account.spent]:
            if grant.expires_us <= at_us:
                self._close(grant, carried=0)
        if following is not None:
            self._begin_period(following, at_us, carried)
        elif has_other:
            self._change_plan(at_us)
        starting = [one for one in account.waiting if one.starts_us <= at_us]
        for grant in sorted(starting, key=lambda one: (one.starts_us, one.number)):
            account.waiting.remove(grant)
            self._enter(grant, at_us)
        self._warn(at_us)
        self._look("credited")

    def _end_period(self) -> tuple[Term | None, int]:
        """End the period; return the plan that is in force from now on, and what it carries on."""
        account = self.account
        ended, following = account.term, held(account)
        carried = 0
        allowances = [one for one in account.open if one.is_allowance]
        if following is not None and ended is not None:
            carried = min(ended.rollover_cap, sum(grant.left for grant in allowances))
        rest = carried
        for grant in allowances:
            some = min(rest, grant.left)
            self._close(grant, carried=some)
            rest -= some
        account.term = following
        account.period_end_us = account.month_end_us = NEVER
        return following, carried

    def _begin_period(self, term: Term, at_us: int, carried: int = 0) -> None:
        account = self.account
        self._begin(at_us)
        # Two periods begin at one moment where the first one was ended at once.
        named_us = self._name_us(at_us) if at_us == account.period_start_us else at_us
        account.term = term
        account.period_start_us = at_us
        account.month_end_us = period_end(term.zone, term.anchor_day, at_us)
        account.period_end_us = min(account.month_end_us, covered_until(account, at_us))
        if carried:
            days = term.rollover_days
            expires_us = at_us + days * DAY_US if days else account.period_end_us
            self._enter_own("rollover", carried, at_us, expires_us, named_us)
        self._enter_own("allowance", term.allowance, at_us, account.period_end_us, named_us)

    def _begin(self, at_us: int) -> None:
        """Let the account begin, unless it has."""
        if not self.account.has_begun:
            self.account.since_us = self._counted.since(at_us)

    def _warn(self, at_us: int) -> None:
        for grants in (self.account.open, self.account.spent):
            for i, grant in enumerate(grants):
                if not grant.is_told and grant.expires_us - WARNING_US <= at_us:
                    grants[i] = replace(grant, is_told=True)
                    if grant.left:
                        told = {
                            "kind": "expiring",
                            "team_id": self.account.team_id,
                            "grant_id": grant.grant_id,
                            "left_micro": grant.left,
                            "expires_at_us": grant.expires_us,
                        }
                        self.notes.append(Note(told))

    # --- what entries do ---

    def grant(self, grant: Grant, now_us: int) -> None:
        """Take a grant, at once or when it starts. Its number is given here."""
        numbered = self._numbered(grant)
        if grant.starts_us > now_us:
            self.account.waiting.append(numbered)
        else:
            self._enter(replace(numbered, starts_us=now_us), now_us)
            self._look("credited")
        self.settle(now_us)

    def subscribe(self, term: Term, now_us: int) -> None:
        """Take a subscription, at once or when it starts; it replaces one of the same start."""
        put(self.account, term, now_us)
        self._change_plan(now_us)
        self._look("credited")
        self.settle(now_us)

    def _change_plan(self, now_us: int) -> None:
        """Let the plan that the team has take effect: a bigger one at once, a smaller one later.

        Later is with the next period, or at once where the plan in force has ended. What was
        granted stays granted until the period ends.
        """
        account, before, term = self.account, self.account.term, held(self.account)
        if before is None:
            if term is not None:
                self._begin_period(term, now_us)
            return
        added = 0
        if term is not None:
            is_same = (term.plan_id, term.plan_version) == (before.plan_id, before.plan_version)
            more = term.allowance - before.allowance
            if is_same or more >= 0 or is_over(account):
                account.term = term
                lasting_us = min(account.month_end_us, term.ends_us) - now_us
                added = more * lasting_us // (account.month_end_us - account.period_start_us)
        until_us = min(account.month_end_us, covered_until(account, now_us))
        self._end_later(max(now_us, until_us))
        if added > 0:
            named_us = self._name_us(now_us)
            self._enter_own("allowance", added, now_us, account.period_end_us, named_us)

    def _end_later(self, end_us: int) -> None:
        """Move the end of the period, and with it that of its allowances."""
        account = self.account
        if end_us == account.period_end_us:
            return
        account.period_end_us = end_us
        for grant in [one for one in (*account.open, *account.spent) if one.is_allowance]:
            account.swap(grant, replace(grant, expires_us=end_us))

    def _name_us(self, now_us: int) -> int:
        """Return the time from now on, by which no grant of a plan is named yet."""
        return max(now_us, self.account.refilled_us + 1)

    def _enter_own(
        self, what: str, amount: int, at_us: int, expires_us: int, named_us: int
    ) -> None:
        """Enter a grant that follows from the plan in force; its id tells a time."""
        if not amount:
            return
        term = self.account.term
        assert term is not None, "a plan is in force"
        grant_id = f"{what}/{term.plan_id}/{format_rfc3339(from_us(named_us))}"
        grant = Grant(
            grant_id, "funded", ALLOWANCE_PRIORITY, amount, expires_us, at_us, 0, amount,
            is_allowance=what == "allowance",
        )  # fmt: skip
        self._enter(self._numbered(grant), at_us)

    def _numbered(self, grant: Grant) -> Grant:
        number = self.account.next_number
        self.account.next_number += 1
        return replace(grant, number=number)

    def _enter(self, grant: Grant, at_us: int) -> None:
        """Let a grant be drawn; it pays first what is overdrawn."""
        account = self.account
        self._begin(at_us)
        account.granted += grant.amount
        if grant.expires_us <= at_us:
            account.expired += grant.amount
            self.closed.append(Closed(replace(grant, left=0), grant.amount, 0))
            return
        paid = min(grant.left, account.overdrawn)
        if paid:
            account.overdrawn -= paid
            source = self._source(grant)
            overdraft = self._draws.source(account.team_id, "", OVERDRAFT)
            self._draws.one(NO_CHARGE, source, paid)
            self._draws.one(NO_CHARGE, overdraft, -paid)
        account.left += grant.left - paid
        account.add(replace(grant, left=grant.left - paid))
        account.refilled_us = max(at_us, account.refilled_us + 1)
        levels = {one.data.limit_id: one.level_at(account.balance) for one in self._balances()}
        for limit_id, (version, level) in account.levels.items():
            account.levels[limit_id] = version, min(level, levels.get(limit_id, 0))

    def _close(self, grant: Grant, carried: int) -> None:
        account = self.account
        account.remove(grant)
        expired = grant.left - carried
        account.expired += expired
        account.rolled_over += carried
        self.closed.append(Closed(replace(grant, left=0), expired, carried))

    # --- what charges do ---

    def draw(self, amounts: _I64, rows: _I64) -> None:
        """Draw positive amounts, in their order: from grants, then from the overdraft.

        `rows` are the rows of their charges.
        """
        account = self.account
        drawn = np.cumsum(amounts)
        total = int(drawn[-1])
        balance, headroom = account.balance, account.headroom
        sources, covered = self._draw_from(total)
        # Where one charge or one source ends, a draw ends.
        ends = np.union1d(drawn, np.cumsum(np.array(covered, np.int64)))
        charge = np.searchsorted(drawn, ends)
        source = np.searchsorted(np.cumsum(np.array(covered, np.int64)), ends)
        self._draws.many(
            rows[charge], np.array(sources, np.int64)[source], np.diff(ends, prepend=0)
        )
        account.drawn += total
        self._look_at_draws(drawn, rows, balance, headroom)

    def _draw_from(self, total: int) -> tuple[list[int], list[int]]:
        """Take an amount out; return the sources, and how much comes from each."""
        account = self.account
        sources: list[int] = []
        covered: list[int] = []
        while total and account.open:
            grant = account.open[0]
            some = min(total, grant.left)
            account.swap(grant, replace(grant, left=grant.left - some))
            sources.append(self._source(grant))
            covered.append(some)
            total -= some
        if total:
            account.overdrawn += total
            sources.append(self._draws.source(account.team_id, "", OVERDRAFT))
            covered.append(total)
        return sources, covered

    def give_back(self, amount: int, row: int, refund_id: str, now_us: int) -> None:
        """Undo draws: first what is overdrawn, then those of grants, the last drawn first.

        What grants had that are gone counts as expired there, and comes back as a refund.
        """
        account = self.account
        account.drawn -= amount
        rest = min(amount, account.overdrawn)
        if rest:
            account.overdrawn -= rest
            self._draws.one(row, self._draws.source(account.team_id, "", OVERDRAFT), -rest)
        rest = amount - rest
        for grant in sorted((*account.open, *account.spent), key=lambda one: one.order)[::-1]:
            some = min(rest, grant.amount - grant.left)
            if some:
                account.swap(grant, replace(grant, left=grant.left + some))
                self._draws.one(row, self._source(grant), -some)
                rest -= some
        if rest:
            account.expired += rest
            self._draws.one(row, self._draws.source(account.team_id, "", GONE), -rest)
            refund = Grant(refund_id, "refund", ALLOWANCE_PRIORITY, rest, NEVER, now_us, 0, rest)
            self._enter(self._numbered(refund), now_us)
        self._look("corrected")

    def charge_more(self, amount: int, row: int) -> None:
        """Draw what a correction adds to a charge."""
        account = self.account
        account.drawn += amount
        for source, some in zip(*self._draw_from(amount), strict=True):
            self._draws.one(row, source, some)
        self._look("corrected")

    def _source(self, grant: Grant) -> int:
        return self._draws.source(self.account.team_id, grant.grant_id, grant.kind)

    # --- what is told ---

    def look(self) -> None:
        """Tell what limits that were just set find."""
        self._look("changed")

    def _balances(self) -> list[BalanceLimit]:
        return [BalanceLimit(one) for one in self._limits]

    def _look(self, reason: str) -> None:
        """Tell what has come about by no charge."""
        account = self.account
        if not account.has_begun:
            return
        if (account.headroom <= 0) != account.is_exhausted:
            account.is_exhausted = not account.is_exhausted
            told = self._exhausted(account.balance) if account.is_exhausted else self._reset(reason)
            self.notes.append(Note(told))
        for limit, was, now in self._levels():
            for level in limit.between(was, now):
                self.notes.append(Note(self._low(limit, level, account.balance)))

    def _look_at_draws(self, drawn: _I64, rows: _I64, balance: int, headroom: int) -> None:
        """Tell what draws have brought about, and with which of them."""
        account = self.account
        found: list[tuple[int, dict[str, Any]]] = []
        if account.headroom <= 0 and not account.is_exhausted:
            account.is_exhausted = True
            i = int(np.searchsorted(drawn, headroom))
            found.append((i, self._exhausted(balance - int(drawn[i]))))
        for limit, was, now in self._levels():
            for level in limit.between(was, now):
                i = int(np.searchsorted(drawn, balance - limit.balance_of(level)))
                found.append((i, self._low(limit, level, balance - int(drawn[i]))))
        found.sort(key=lambda one: one[0])
        self.notes += [Note(told, int(rows[i])) for i, told in found]

    def _levels(self) -> list[tuple[BalanceLimit, int, int]]:
        """Bring the reached levels up to date; return what they were and are."""
        account = self.account
        known, account.levels = account.levels, {}
        found = []
        for limit in self._balances():
            version, was = known.get(limit.data.limit_id, (0, 0))
            was = was if version == limit.data.version else 0
            now = max(was, limit.level_at(account.balance))
            account.levels[limit.data.limit_id] = limit.data.version, now
            found.append((limit, was, now))
        return found

    def _exhausted(self, balance: int) -> dict[str, Any]:
        return {
            "kind": "exhausted",
            "team_id": self.account.team_id,
            "balance_micro": balance,
            "overdraft_micro": self.account.overdraft,
        }

    def _reset(self, reason: str) -> dict[str, Any]:
        account = self.account
        return {
            "kind": "reset",
            **self._of_balance(CREDITS_LIMIT, 1, account.overdraft),
            "used": -account.balance,
            "reason": reason,
        }

    def _low(self, limit: BalanceLimit, level: int, balance: int) -> dict[str, Any]:
        data = limit.data
        return {
            "kind": "low",
            **self._of_balance(data.limit_id, data.version, data.amount),
            "level_permille": level,
            "used": data.amount - balance,
            "balance_micro": balance,
        }

    def _of_balance(self, limit_id: str, version: int, amount: int) -> dict[str, Any]:
        return {
            "team_id": self.account.team_id,
            "limit_id": limit_id,
            "limit_version": version,
            "subject": "team",
            "subject_id": None,
            "measure": "credits",
            "window": "balance",
            "window_start_us": self.account.refilled_us,
            "window_end_us": None,
            "amount": amount,
        }
