"""Posting: what the entries and charges of one record do to accounts.

First the time that has passed, then the entries of the record in their order, corrections among
them, then its charges by their offsets and the clock at each, then time again. So balances do not
depend on where a batch begins or ends.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import (
    ControlEvent,
    CreditsGranted,
    SubscriptionChanged,
    SubscriptionChangedData,
    UsageAdjusted,
    UsageVoided,
)
from meterstream.schemas.times import to_us

from .accounts import AS_BEFORE, NEVER, Account, Grant, Term, due_of
from .beginnings import CountedBefore, ahead_of
from .book import Book
from .control import Control
from .corrections import Correction, refund_id
from .draws import NO_CHARGES, Charged, Draws
from .entries import Entries, KeptEntry
from .ledger import Ledger, Posted
from .limit_index import Limits
from .limits import LimitKey
from .pricing import Priced
from .state import PartitionState

_I64 = NDArray[np.int64]

MAX_DUE: Final = 2_000
"""Accounts that one record settles although none of its charges is theirs: it must fit a message.
The rest is due with the next record."""


def charges_of(runs: Priced, chosen: NDArray[np.bool_], clocks_us: _I64) -> Charged:
    """Return the charges of the chosen runs; `clocks_us` are the clocks at each of those."""
    numbers: dict[str, int] = {}
    of_cell = np.array([numbers.setdefault(key[1], len(numbers)) for key in runs.keys], np.int64)
    return Charged(
        list(numbers),
        of_cell[runs.cell[chosen]],
        runs.total_micro[chosen],
        clocks_us,
        runs.times_us[chosen],
    )


def post(
    state: PartitionState,
    charged: Charged,
    clock_us: int,
    *,
    entries: Entries,
    governed: Control,
    taken: Sequence[KeptEntry],
    events: Sequence[tuple[int, ControlEvent]],
) -> Posted:
    """Return what the control entries `taken`, charges and time up to `clock_us` do to accounts.

    `entries` and `governed` are what the catalog and control say with the record; `events` are
    those of `taken`, with their offsets.
    """
    anew = list(governed.limits_named_by(taken))
    posting = Posting(state.ledger, governed.limits, entries, state.clock_us)
    return posting.post(events, anew, charged, clock_us)


class Posting:
    """Posts one record. Used once; the ledger stays as it is."""

    def __init__(self, ledger: Ledger, limits: Limits, entries: Entries, clock_us: int) -> None:
        """`clock_us` is the clock before the events of the record."""
        self._ledger = ledger
        self._limits = limits.on_balances
        self._entries = entries
        self._clock_us = clock_us
        self._draws = Draws()
        self._books: dict[str, Book] = {}
        self._changed: dict[str, Account] = {}
        self._charged = NO_CHARGES

    def post(
        self,
        entries: Sequence[tuple[int, ControlEvent]],
        limits_set: Sequence[LimitKey],
        charged: Charged,
        clock_us: int,
    ) -> Posted:
        """Return what entries (with their offsets), charges and time up to `clock_us` do.

        `limits_set` are those that were set or removed. The rows of draws count the charges of 0
        as well, and then corrections.
        """
        self._charged = charged
        if not self._ledger and not entries:
            return Posted(ahead=self._ahead(clock_us))
        correction = len(charged.amounts)
        for offset, event in entries:
            if isinstance(event, CreditsGranted):
                self._book(event.data.team_id).grant(_grant(event), self._clock_us)
            elif isinstance(event, SubscriptionChanged):
                term = self._term(event.data)
                self._book(event.data.team_id).subscribe(term, self._clock_us)
            elif isinstance(event, UsageAdjusted | UsageVoided):
                self._correct(Correction(offset, event), correction)
                correction += 1
        for team_id, _ in limits_set:
            if self._ledger.get(team_id) is not None:
                self._book(team_id).look()
        self._charge(charged)
        due = [team for team in self._ledger.due_teams(clock_us) if team not in self._books]
        for team_id in due[:MAX_DUE]:
            self._book(team_id)
        for team_id, book in self._books.items():
            book.settle(clock_us)
            book.account.due_us = due_of(book.account)
            self._changed[team_id] = book.account
        names = sorted(self._books)
        return Posted(
            [self._changed[team_id] for team_id in sorted(self._changed)],
            {name: self._books[name].closed for name in names if self._books[name].closed},
            self._draws,
            [note for name in names for note in self._books[name].notes],
            self._ahead(clock_us),
        )

    def _ahead(self, clock_us: int) -> dict[str, int]:
        def has_begun(team_id: str) -> bool:
            account = self._changed.get(team_id) or self._ledger.get(team_id)
            return account is not None and account.has_begun

        return ahead_of(self._charged, clock_us, self._ledger.ahead, has_begun)

    def _book(self, team_id: str) -> Book:
        """Return the open book of a team, settled up to the clock before the record's events."""
        book = self._books.get(team_id)
        if book is None:
            # One from which charges of this record were drawn already stands as it is after them.
            known = self._changed.get(team_id) or self._ledger.get(team_id)
            account = Account(team_id) if known is None else known.copy()
            limits = self._limits.get(team_id, ())
            counted = CountedBefore()
            if not account.has_begun:
                latest_us = self._ledger.ahead.get(team_id, 0)
                counted = CountedBefore.of(team_id, latest_us, self._charged)
            book = self._books[team_id] = Book(account, limits, self._draws, counted)
            book.settle(self._clock_us)
        return book

    def _term(self, data: SubscriptionChangedData) -> Term:
        plan = self._entries.plan(data.plan_id, data.plan_version)
        assert plan is not None, "a subscription to it was taken"
        zone = data.zone or self._entries.zone_of(data.team_id)
        starts_us = to_us(data.starts_at)
        return Term(
            data.plan_id,
            data.plan_version,
            starts_us,
            _until(data.ends_at),
            data.anchor_day or AS_BEFORE,
            zone,
            plan.allowance_credits_micro,
            plan.rollover_cap_micro,
            plan.rollover_expiry_days or 0,
            plan.overdraft_micro,
        )

    def _correct(self, correction: Correction, row: int) -> None:
        """Draw what a correction adds, or undo draws, if the run was charged to the account."""
        team_id = correction.event.data.team_id
        credits_micro = correction.event.data.credits_micro
        known = self._ledger.get(team_id)
        if not credits_micro or (known is None and team_id not in self._books):
            return
        book = self._book(team_id)
        if correction.time_us < book.account.since_us:
            return
        if credits_micro > 0:
            book.charge_more(credits_micro, row)
        else:
            book.give_back(-credits_micro, row, refund_id(correction.event), self._clock_us)

    # --- charges ---

    def _charge(self, charged: Charged) -> None:
        """Draw all charges, team by team; most teams draw from one grant alone."""
        has_account = np.array(
            [team in self._books or self._ledger.get(team) is not None for team in charged.teams],
            np.bool_,
        )
        if not has_account.any():
            return
        rows = np.flatnonzero(has_account[charged.team] & (charged.amounts > 0))
        if not len(rows):
            return
        rows = rows[np.argsort(charged.team[rows], kind="stable")]
        team, amounts, clocks, times = (
            charged.team[rows], charged.amounts[rows], charged.clocks_us[rows],
            charged.times_us[rows],
        )  # fmt: skip
        starts = np.concatenate(([0], np.flatnonzero(team[1:] != team[:-1]) + 1))
        ends = np.append(starts[1:], len(rows))
        totals, earliest = np.add.reduceat(amounts, starts), np.minimum.reduceat(times, starts)
        sources = np.full(len(starts), -1, np.int64)
        for i, (number, first, end, total, first_us, last_us) in enumerate(
            zip(
                team[starts].tolist(),
                starts.tolist(),
                ends.tolist(),
                totals.tolist(),
                earliest.tolist(),
                clocks[ends - 1].tolist(),
                strict=True,
            )
        ):
            team_id = charged.teams[number]
            sources[i] = self._draw_at_once(team_id, total, first_us, last_us)
            if sources[i] < 0:
                part = slice(first, end)
                draws = amounts[part], clocks[part], times[part], rows[part]
                self._draw(self._book(team_id), *draws)
        of_row = np.repeat(sources, ends - starts)
        at_once = of_row >= 0
        self._draws.many(rows[at_once], of_row[at_once], amounts[at_once])

    def _draw_at_once(self, team_id: str, total: int, first_us: int, last_us: int) -> int:
        """Draw from the one grant that covers it, if nothing else happens; return the source.

        `first_us` is the earliest time of their events, `last_us` the clock at the last. -1 where a
        book is needed: time passes something, a grant or the balance comes to its end, or limits
        ask for each draw.
        """
        account = self._ledger.get(team_id)
        if (
            account is None
            or team_id in self._books
            or team_id in self._limits
            or account.due_us <= last_us
            or first_us < account.since_us
            or not account.open
            or account.overdrawn
            or account.is_exhausted
        ):
            return -1
        grant = account.open[0]
        if total >= grant.left:
            return -1
        self._changed[team_id] = replace(
            account,
            open=[replace(grant, left=grant.left - total), *account.open[1:]],
            left=account.left - total,
            drawn=account.drawn + total,
        )
        return self._draws.source(team_id, grant.grant_id, grant.kind)

    @staticmethod
    def _draw(book: Book, amounts: _I64, clocks: _I64, times: _I64, rows: _I64) -> None:
        """Draw one team's charges, each after what time did up to the clock at it.

        What was used before the account began is left out, whenever it arrives: so what draws is
        what a correction gives back.
        """
        first = 0
        while first < len(rows):
            book.settle(int(clocks[first]))
            end = int(np.searchsorted(clocks, due_of(book.account)))
            part = np.arange(first, end)
            part = part[times[part] >= book.account.since_us]
            if len(part):
                book.draw(amounts[part], rows[part])
            first = end


def _grant(event: CreditsGranted) -> Grant:
    data = event.data
    return Grant(
        data.grant_id,
        data.kind,
        data.priority,
        data.amount_micro,
        _until(data.expires_at),
        0 if data.starts_at is None else to_us(data.starts_at),
        0,
        data.amount_micro,
    )


def _until(moment: datetime | None) -> int:
    return NEVER if moment is None else min(NEVER, to_us(moment))
