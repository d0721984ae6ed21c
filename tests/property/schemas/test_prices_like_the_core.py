"""A run costs the same told step by step as among thousands, in arrays."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.budget import share

from meterstream.schemas.catalog import (
    MAX_PERMILLE,
    MAX_PRICE_MICRO,
    PriceLine,
    RateCardPublishedData,
    UnitPrices,
)
from meterstream.schemas.fields import MAX_BYTES, MAX_TOKENS
from meterstream.schemas.pricing import RunToPrice, price_run
from meterstream.schemas.times import from_us
from meterstream.streams.core.prices import Card, PriceBook, Quantities

CUT = 2**60
"""Products are cut here in arrays; no run that costs as much is ever counted."""

AMOUNTS = st.one_of(st.integers(0, 2_000), st.integers(0, MAX_PRICE_MICRO))
PERMILLE = st.one_of(st.sampled_from((1000, 0, 1, 500, 1500, MAX_PERMILLE)), st.integers(0, 3_000))
OPERATIONS = ("agent_run", "api_call", "feature")
NAMES = st.sampled_from(("a", "b"))
SOME = st.one_of(st.none(), NAMES)

UNIT_PRICES = {
    "run_micro": AMOUNTS,
    "input_micro_per_1k": AMOUNTS,
    "output_micro_per_1k": AMOUNTS,
    "cached_micro_per_1k": st.one_of(st.none(), AMOUNTS),
    "reasoning_micro_per_1k": st.one_of(st.none(), AMOUNTS),
    "request_micro_per_mb": AMOUNTS,
    "response_micro_per_mb": AMOUNTS,
}
MONEY = st.one_of(st.none(), st.builds(UnitPrices, **UNIT_PRICES))
LINES = st.builds(
    PriceLine,
    operation=st.one_of(st.none(), st.sampled_from(OPERATIONS)),
    provider=SOME,
    model=SOME,
    feature_id=SOME,
    agent_type=SOME,
    amount=MONEY,
    cost=MONEY,
    **UNIT_PRICES,
)
CARDS = st.builds(
    RateCardPublishedData,
    name=st.just("default"),
    version=st.just(1),
    currency=st.just("EUR"),
    effective_from=st.just(from_us(0)),
    prices=st.lists(LINES, min_size=1, max_size=4).map(tuple),
    agent_type_multiplier_permille=st.dictionaries(NAMES, PERMILLE),
    premium_multiplier_permille=PERMILLE,
)


@st.composite
def runs(draw: st.DrawFn) -> RunToPrice:
    """Return a run within the bounds of the contract."""
    tokens = st.one_of(st.integers(0, 3_000), st.integers(0, MAX_TOKENS))
    sizes = st.one_of(st.integers(0, 3_000_000), st.integers(0, MAX_BYTES))
    input_tokens, output_tokens = draw(tokens), draw(tokens)
    return RunToPrice(
        operation=draw(st.sampled_from(OPERATIONS)),
        provider=draw(st.one_of(st.just(""), NAMES)),
        model=draw(st.one_of(st.just(""), NAMES)),
        feature_id=draw(st.one_of(st.just(""), NAMES)),
        agent_type=draw(st.one_of(st.just(""), NAMES)),
        premium=draw(st.booleans()),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=draw(st.integers(0, input_tokens)),
        reasoning_tokens=draw(st.integers(0, output_tokens)),
        request_bytes=draw(sizes),
        response_bytes=draw(sizes),
    )


@given(card=CARDS, batch=st.lists(runs(), min_size=1, max_size=8))
@settings(max_examples=share(400), deadline=None)
def test_steps_and_arrays_come_to_the_same(
    card: RateCardPublishedData, batch: list[RunToPrice]
) -> None:
    """Line, multiplier, each component, amount and cost of every run are equal both ways."""
    book = PriceBook([Card.of(card)])
    rows = np.array(
        [
            book.knowing(
                {"agent": run.agent_type} if run.agent_type else {},
                frozenset({run.feature_id} if run.premium else ()),
            ).line_index(
                0,
                (
                    0,
                    "t",
                    "",
                    "",
                    "agent",
                    run.model,
                    run.provider,
                    run.feature_id,
                    "",
                    run.operation,
                ),
            )
            for run in batch
        ]
    )
    quantities = _quantities(batch)
    components = book.components(rows, quantities)
    amounts, costs = book.money(rows, quantities)
    lines, multipliers = book.lines(rows)
    for i, run in enumerate(batch):
        price = price_run(card, run)
        assert price.line == lines[i]
        if not price.is_priced:
            assert not components[:, i].any()
            continue
        assert price.multiplier_ppm == multipliers[i]
        steps = {step.component: step for step in price.steps}
        names = (
            ("run",),
            ("input",),
            ("output",),
            ("cached",),
            ("reasoning",),
            ("request", "response"),
        )
        assert components[:, i].tolist() == [
            sum(min(steps[name].credits.micro, CUT) for name in some if name in steps)
            for some in names
        ]
        in_amount = [step.amount.micro for step in price.steps if step.amount]
        in_cost = [step.cost.micro for step in price.steps if step.cost]
        assert amounts[i] == sum(min(micro, CUT) for micro in in_amount)
        assert costs[i] == sum(min(micro, CUT) for micro in in_cost)


def _quantities(batch: list[RunToPrice]) -> Quantities:
    return Quantities(
        [
            np.array([run.input_tokens - run.cached_tokens for run in batch]),
            np.array([run.output_tokens - run.reasoning_tokens for run in batch]),
            np.array([run.cached_tokens for run in batch]),
            np.array([run.reasoning_tokens for run in batch]),
        ],
        [
            np.array([run.request_bytes for run in batch]),
            np.array([run.response_bytes for run in batch]),
        ],
    )
