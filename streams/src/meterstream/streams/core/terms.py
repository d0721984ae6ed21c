"""Which plan a team has: of its subscriptions that have begun and have not ended, the last begun.

A subscription is known by its start: one that is sent with the start of another replaces it, and
one that ends where it starts cancels it. Where the one that a team has ends, the one that began
before it holds again, if it still runs.
"""

from dataclasses import replace

from .accounts import AS_BEFORE, Account, Term
from .periods import local_day


def held(account: Account) -> Term | None:
    """Return the subscription that the team has; None for none.

    Its plan may not be in force yet: a smaller one waits for the next period.
    """
    return account.begun[-1] if account.begun else None


def put(account: Account, term: Term, now_us: int) -> None:
    """Take a subscription in the place of one with its start, unless it has ended or is none."""
    for terms in (account.begun, account.terms):
        terms[:] = [one for one in terms if one.starts_us != term.starts_us]
    if term.ends_us > max(term.starts_us, now_us):
        account.terms.append(term)
        account.terms.sort(key=lambda one: one.starts_us)
    advance(account, now_us)


def advance(account: Account, at_us: int) -> bool:
    """Let subscriptions begin and end up to a time; return whether any did."""
    before = account.begun
    beginning = [one for one in account.terms if one.starts_us <= at_us]
    account.terms = account.terms[len(beginning) :]
    begun = [*before, *(_anchored(one, account.term) for one in beginning)]
    begun = [one for one in begun if one.ends_us > at_us]
    account.begun = sorted(begun, key=lambda one: one.starts_us)
    return account.begun != before


def is_over(account: Account) -> bool:
    """Tell whether the subscription whose plan is in force has ended."""
    term = account.term
    return term is not None and all(one.starts_us != term.starts_us for one in account.begun)


def covered_until(account: Account, at_us: int) -> int:
    """Return until when a team has one plan or another, without a gap from `at_us` on."""
    until_us = max((one.ends_us for one in account.begun), default=at_us)
    for term in account.terms:
        if term.starts_us <= until_us:
            until_us = max(until_us, term.ends_us)
    return until_us


def _anchored(term: Term, before: Term | None) -> Term:
    """Return a term with its anchor day: where it names none, that of the one before it."""
    if term.anchor_day != AS_BEFORE:
        return term
    if before is not None:
        return replace(term, anchor_day=before.anchor_day)
    return replace(term, anchor_day=local_day(term.zone, term.starts_us))
