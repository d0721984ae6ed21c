"""What one run or a span of session time costs, step by step."""

from typing import Any

import pytest

from meterstream.schemas.catalog import PriceLine, RateCardPublishedData, UnitPrices
from meterstream.schemas.pricing import (
    Product,
    RunToPrice,
    SessionToPrice,
    card_at,
    price_run,
    price_session,
)
from meterstream.schemas.times import from_us


def card(*lines: PriceLine, version: int = 1, effective_us: int = 0, **more: Any) -> (
    RateCardPublishedData
):  # fmt: skip
    """Return a version of the default card."""
    return RateCardPublishedData(
        name="default",
        version=version,
        effective_from=from_us(effective_us),
        prices=lines,
        **more,
    )


def test_a_step_tells_quantity_price_multiplier_and_rounding() -> None:
    """Each component shows the product before it was rounded, in credits, currency and cost."""
    one = card(
        PriceLine(
            model="m",
            input_micro_per_1k=3_333,
            amount=UnitPrices(input_micro_per_1k=2),
            cost=UnitPrices(input_micro_per_1k=1),
        ),
        currency="USD",
        agent_type_multiplier_permille={"researcher": 1_500},
        premium_multiplier_permille=2_000,
    )
    run = RunToPrice(
        operation="agent_run", model="m", agent_type="researcher", premium=True, input_tokens=500
    )
    price = price_run(one, run)
    assert (price.card, price.line, price.currency) == ("default@1", 0, "USD")
    assert (price.agent_type_permille, price.premium_permille) == (1_500, 2_000)
    assert (price.credits_micro, price.amount_micro, price.cost_micro) == (5_000, 3, 1)
    step = price.steps[1]
    assert (step.component, step.quantity, step.per) == ("input", 500, 1_000)
    assert step.credits == Product(3_333, 3_000_000, 4_999_500_000_000, 10**9, 5_000)
    assert step.amount == Product(2, 3_000_000, 3 * 10**9, 10**9, 3)
    assert step.cost == Product(1, 1_000_000, 5 * 10**8, 10**9, 1)


def test_an_api_call_or_feature_is_priced_by_its_operation() -> None:
    """A line for an operation prices each run of it."""
    one = card(
        PriceLine(operation="api_call", run_micro=5), PriceLine(operation="feature", run_micro=7)
    )
    found = {
        operation: price_run(one, RunToPrice(operation=operation)).credits_micro
        for operation in ("agent_run", "api_call", "feature")
    }
    assert found == {"agent_run": 0, "api_call": 5, "feature": 7}


def test_unpriced_is_not_the_same_as_free() -> None:
    """Without a card or a line that fits a run is unpriced; by a price of 0 it is priced."""
    run = RunToPrice(operation="agent_run")
    assert not price_run(None, run).is_priced
    assert not price_run(card(), run).is_priced
    assert price_run(card(PriceLine()), run).is_priced
    assert price_run(None, RunToPrice(operation="agent_run", credits_micro=3)).card == "explicit"


def test_session_time_is_priced_by_the_size_of_its_machine() -> None:
    """Microseconds times the price of a second, multiplied by the agent's type, rounded once."""
    one = card(
        session_micro_per_second={"small": 3, "large": 1_000},
        session_amount_micro_per_second={"small": 10},
        session_cost_micro_per_second={"small": 7},
        currency="USD",
        agent_type_multiplier_permille={"researcher": 2_000},
        premium_multiplier_permille=9_000,
    )
    price = price_session(
        one, SessionToPrice(machine_size="small", elapsed_us=1_250_000, agent_type="researcher")
    )
    assert price is not None
    assert (price.credits_micro, price.amount_micro, price.cost_micro) == (8, 25, 9)
    assert (price.card, price.line, price.machine_size) == ("default@1", -1, "small")


@pytest.mark.parametrize("sizes", [{"small": 3}, {}])
def test_a_size_is_unpriced_where_others_are_priced(sizes: dict[str, int]) -> None:
    """A card that prices no session sells none; one that prices some leaves the others open."""
    price = price_session(
        card(session_micro_per_second=sizes), SessionToPrice(machine_size="huge", elapsed_us=1)
    )
    assert (price is not None and not price.is_priced) == bool(sizes)
    without = price_session(None, SessionToPrice(machine_size="huge", elapsed_us=1))
    assert without is not None
    assert not without.is_priced


def test_the_card_in_effect_is_the_latest_that_has_begun() -> None:
    """A card of the name holds from its very microsecond; before the first one none does."""
    cards = [card(version=v, effective_us=at) for v, at in ((1, 100), (3, 200), (2, 200))]
    found = [card_at(cards, from_us(at)) for at in (99, 100, 199, 200)]
    assert [one and one.version for one in found] == [None, 1, 1, 3]
    assert card_at(cards, from_us(500), "other") is None
