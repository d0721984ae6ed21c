"""What a run or a span of session time costs by a rate card, told step by step.

The meter prices batches as arrays (`meterstream.streams.core.prices`) and comes to the same
amounts; this is for one run at a time, where each step is to be shown: explaining a charge, pricing
once more, estimating before the run. How a price comes about is told in docs/pricing.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from .catalog import DEFAULT_CARD, PriceLine, RateCardPublishedData, UnitPrices

UNPRICED: Final = "unpriced"
"""What a charge names in a card's place where none prices it."""
EXPLICIT: Final = "explicit"
"""What a charge names in a card's place where the event itself names its credits."""
ONE_PPM: Final = 1_000_000
"""The multiplier that leaves a price as it is: multipliers are in millionths."""
ONE_PERMILLE: Final = 1_000
PER_RUN: Final = 1
PER_TOKENS: Final = 1_000
PER_BYTES: Final = 1_000_000
PER_US: Final = 1_000_000
"""The microseconds of the second that session prices are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunToPrice:
    """What the price of a run depends on. Texts are empty where a run names none."""

    operation: str
    provider: str = ""
    model: str = ""
    feature_id: str = ""
    agent_type: str = ""
    """The type of its agent, empty where the catalog has no such agent."""
    premium: bool = False
    """Whether its feature is a premium one."""
    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    """Reasoning ones included."""
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    credits_micro: int | None = None
    """What the run itself says that it costs; then no card is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionToPrice:
    """What the price of session time depends on."""

    machine_size: str
    elapsed_us: int
    """Since the session's last sign, by the clock."""
    agent_type: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """A price times a quantity, rounded: quantity x price x multiplier / (per x 1,000,000)."""

    price_micro: int
    multiplier_ppm: int
    numerator: int
    denominator: int
    micro: int
    """numerator / denominator, rounded half up: the only rounding there is."""


@dataclass(frozen=True, slots=True)
class PriceStep:
    """One component of a price."""

    component: str
    """run, input, output, cached, reasoning, request, response or session."""
    quantity: int
    per: int
    """For how many a price is: 1 run, 1,000 tokens, 1,000,000 bytes or microseconds."""
    credits: Product
    amount: Product | None = None
    """In the card's currency; None where the line names no price in it."""
    cost: Product | None = None
    """What the provider takes; no multiplier applies."""


@dataclass(frozen=True, slots=True)
class Price:
    """What something costs, and how that comes about. All amounts are millionths."""

    card: str
    """name@version; `unpriced` or `explicit` where no card says the price."""
    line: int = -1
    """Which of the card's `prices` it was, from 0; -1 for sessions and where no card prices."""
    machine_size: str = ""
    agent_type_permille: int = ONE_PERMILLE
    premium_permille: int = ONE_PERMILLE
    currency: str | None = None
    credits_micro: int = 0
    amount_micro: int = 0
    cost_micro: int = 0
    steps: tuple[PriceStep, ...] = ()

    @property
    def is_priced(self) -> bool:
        """False where no card says what it costs: that is not the same as nothing."""
        return self.card != UNPRICED

    @property
    def multiplier_ppm(self) -> int:
        """By how much prices were multiplied, millionths."""
        return self.agent_type_permille * self.premium_permille


def card_at(
    cards: Iterable[RateCardPublishedData], moment: datetime, name: str = DEFAULT_CARD
) -> RateCardPublishedData | None:
    """Return the card in effect at a moment: the latest that has begun; None if none has."""
    begun = [card for card in cards if card.name == name and card.effective_from <= moment]
    return max(begun, key=lambda card: (card.effective_from, card.version), default=None)


def line_for(
    card: RateCardPublishedData,
    operation: str,
    provider: str,
    model: str,
    feature_id: str,
    agent_type: str,
) -> int | None:
    """Return which of a card's lines prices a run: the most criteria, then the first; or None."""
    best, best_rank = None, -1
    for number, line in enumerate(card.prices):
        wanted = (
            (line.operation, operation),
            (line.provider, provider),
            (line.model, model),
            (line.feature_id, feature_id),
            (line.agent_type, agent_type),
        )
        if any(want is not None and want != have for want, have in wanted):
            continue
        rank = sum(want is not None for want, _ in wanted)
        if rank > best_rank:
            best, best_rank = number, rank
    return best


def multipliers_of(
    card: RateCardPublishedData, agent_type: str, *, premium: bool
) -> tuple[int, int]:
    """Return by how many thousandths the type of an agent and a premium feature multiply."""
    return (
        card.agent_type_multiplier_permille.get(agent_type, ONE_PERMILLE),
        card.premium_multiplier_permille if premium else ONE_PERMILLE,
    )


def unit_prices(prices: UnitPrices) -> tuple[int, ...]:
    """Return prices in the order run, input, output, cached, reasoning, request, response.

    Cached and reasoning tokens without a price of their own cost what their kind costs.
    """
    cached, reasoning = prices.cached_micro_per_1k, prices.reasoning_micro_per_1k
    return (
        prices.run_micro,
        prices.input_micro_per_1k,
        prices.output_micro_per_1k,
        prices.input_micro_per_1k if cached is None else cached,
        prices.output_micro_per_1k if reasoning is None else reasoning,
        prices.request_micro_per_mb,
        prices.response_micro_per_mb,
    )


def price_run(card: RateCardPublishedData | None, run: RunToPrice) -> Price:
    """Return what a run costs by a card, with each step; unpriced where no line fits."""
    if run.credits_micro is not None:
        return Price(EXPLICIT, credits_micro=run.credits_micro)
    if card is None:
        return Price(UNPRICED)
    number = line_for(card, run.operation, run.provider, run.model, run.feature_id, run.agent_type)
    if number is None:
        return Price(UNPRICED)
    by_type, by_premium = multipliers_of(card, run.agent_type, premium=run.premium)
    steps = run_steps(card.prices[number], run, by_type * by_premium)
    return _sum(
        Price(card.label, number, "", by_type, by_premium, card.currency),
        steps,
    )


def run_steps(line: PriceLine, run: RunToPrice, multiplier_ppm: int) -> tuple[PriceStep, ...]:
    """Return what each component of a run costs by a line; those without quantity are left out."""
    quantities = (
        ("run", 1, PER_RUN),
        ("input", run.input_tokens - run.cached_tokens, PER_TOKENS),
        ("output", run.output_tokens - run.reasoning_tokens, PER_TOKENS),
        ("cached", run.cached_tokens, PER_TOKENS),
        ("reasoning", run.reasoning_tokens, PER_TOKENS),
        ("request", run.request_bytes, PER_BYTES),
        ("response", run.response_bytes, PER_BYTES),
    )
    credit_prices = unit_prices(line)
    amounts = None if line.amount is None else unit_prices(line.amount)
    costs = None if line.cost is None else unit_prices(line.cost)
    return tuple(
        PriceStep(
            name,
            quantity,
            per,
            _product(quantity, per, credit_prices[i], multiplier_ppm),
            None if amounts is None else _product(quantity, per, amounts[i], multiplier_ppm),
            None if costs is None else _product(quantity, per, costs[i], ONE_PPM),
        )
        for i, (name, quantity, per) in enumerate(quantities)
        if quantity
    )


def price_session(card: RateCardPublishedData | None, session: SessionToPrice) -> Price | None:
    """Return what session time costs by a card, with its step.

    Unpriced without a card, or where the card prices other sizes; None where it prices no session
    at all: then sessions are not for sale.
    """
    if card is None:
        return Price(UNPRICED, machine_size=session.machine_size)
    if not card.session_micro_per_second:
        return None
    size, elapsed_us = session.machine_size, session.elapsed_us
    if size not in card.session_micro_per_second:
        return Price(UNPRICED, machine_size=size)
    by_type, _ = multipliers_of(card, session.agent_type, premium=False)
    multiplier_ppm = by_type * ONE_PERMILLE
    amount = card.session_amount_micro_per_second.get(size)
    cost = card.session_cost_micro_per_second.get(size)
    step = PriceStep(
        "session",
        elapsed_us,
        PER_US,
        _product(elapsed_us, PER_US, card.session_micro_per_second[size], multiplier_ppm),
        None if amount is None else _product(elapsed_us, PER_US, amount, multiplier_ppm),
        None if cost is None else _product(elapsed_us, PER_US, cost, ONE_PPM),
    )
    return _sum(
        Price(card.label, machine_size=size, agent_type_permille=by_type, currency=card.currency),
        (step,),
    )


def _product(quantity: int, per: int, price_micro: int, multiplier_ppm: int) -> Product:
    numerator, denominator = quantity * price_micro * multiplier_ppm, per * ONE_PPM
    micro = (numerator + denominator // 2) // denominator
    return Product(price_micro, multiplier_ppm, numerator, denominator, micro)


def _sum(price: Price, steps: tuple[PriceStep, ...]) -> Price:
    return replace(
        price,
        credits_micro=sum(step.credits.micro for step in steps),
        amount_micro=sum(step.amount.micro for step in steps if step.amount),
        cost_micro=sum(step.cost.micro for step in steps if step.cost),
        steps=steps,
    )
