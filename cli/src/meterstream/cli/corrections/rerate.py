"""Pricing runs once more: what differs by team and model, and the corrections that say so."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from meterstream.schemas.control import UsageAdjusted
from meterstream.schemas.pricing import EXPLICIT

from .known import NONE, Identity, Made, amounts_now
from .make import adjust
from .prices import Prices
from .runs import CountedRun

BATCH: Final = 2_000
"""Corrections that are written before the meter is waited for."""
_CHANGED: Final = ("credits_micro", "amount_micro", "cost_micro", "unpriced_runs")


@dataclass(slots=True)
class Difference:
    """What pricing once more makes of the runs of one team and model."""

    runs: int = 0
    changed: int = 0
    newly_priced: int = 0
    still_unpriced: int = 0
    before_micro: int = 0
    after_micro: int = 0


@dataclass(slots=True)
class Summary:
    """The whole of it."""

    by_team_and_model: dict[tuple[str, str], Difference] = field(default_factory=dict)
    runs: int = 0
    missing: int = 0
    """Runs whose events were gone before they were stored: nobody can price them again."""
    by_hand: int = 0
    """Runs whose credits were adjusted by hand: what was agreed on is not undone."""

    @property
    def changed(self) -> int:
        """How many runs are to be corrected."""
        return sum(each.changed for each in self.by_team_and_model.values())


class Rerating:
    """Prices runs by `prices`; by one card for all of them, or by that in effect at each."""

    def __init__(
        self, prices: Prices, made: dict[Identity, Made], card: str | None, reason: str
    ) -> None:
        self._prices = prices
        self._made = made
        self._card = card
        self._reason = reason

    def summary(
        self, pages: Iterable[list[CountedRun]], progress: Callable[[int], None]
    ) -> Summary:
        """Return what would change."""
        summary = Summary()
        for page in pages:
            for run in page:
                self._look(run, summary)
            summary.runs += len(page)
            progress(summary.runs)
        return summary

    def corrections(
        self, pages: Iterable[list[CountedRun]], now: datetime
    ) -> Iterator[list[UsageAdjusted]]:
        """Yield the corrections, in batches that are written one after the other."""
        batch: list[UsageAdjusted] = []
        for run in itertools.chain.from_iterable(pages):
            change = self._change(run)
            if change is None or not change.counts:
                continue
            number = self._of(run).next_number
            batch.append(
                adjust(run, number, change.amounts, change.card, self._reason, now, kind="rerating")
            )
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _of(self, run: CountedRun) -> Made:
        return self._made.get(run.identity, NONE)

    def _look(self, run: CountedRun, summary: Summary) -> None:
        if run.event_missing:
            summary.missing += 1
            return
        summary.by_hand += self._of(run).by_hand and not self._of(run).is_void
        change = self._change(run)
        if change is None:
            return
        key = run.team_id, run.model
        found = summary.by_team_and_model.setdefault(key, Difference())
        found.runs += 1
        found.changed += change.counts
        found.newly_priced += change.amounts["unpriced_runs"] == -1
        found.still_unpriced += change.is_unpriced
        found.before_micro += change.before_micro
        found.after_micro += change.before_micro + change.amounts["credits_micro"]

    def _change(self, run: CountedRun) -> "_Change | None":
        """Return what a run's price becomes; None for those that stay as they are whatever it is.

        A run that names its own credits costs those, a voided one nothing, and what was agreed on
        by hand is kept. What no card prices keeps what it was charged.
        """
        made = self._of(run)
        if run.event_missing or run.card == EXPLICIT or made.is_void or made.by_hand:
            return None
        now = amounts_now(run, made)
        before, was_unpriced = now["credits_micro"], now["unpriced_runs"] > 0
        price = self._prices.price(run, now, self._card)
        if not price.is_priced:
            return _Change(before, dict.fromkeys(_CHANGED, 0), run.card, is_unpriced=was_unpriced)
        changes = {
            "credits_micro": price.credits_micro - before,
            "amount_micro": price.amount_micro - now["amount_micro"],
            "cost_micro": price.cost_micro - now["cost_micro"],
            "unpriced_runs": -1 if was_unpriced else 0,
        }
        return _Change(before, changes, price.card)


@dataclass(frozen=True, slots=True)
class _Change:
    before_micro: int
    amounts: dict[str, int]
    """What is added, by the names in _CHANGED."""
    card: str
    is_unpriced: bool = False

    @property
    def counts(self) -> bool:
        return any(self.amounts.values())
