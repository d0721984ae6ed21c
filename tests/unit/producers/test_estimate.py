"""What a meter says that a run would cost."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.support.events import agent, feature, rate_card

from meterstream.producers import (
    AsyncMeter,
    InvalidPrices,
    Meter,
    NotPriced,
    Prices,
    PricesUnknown,
)
from meterstream.producers.testing import AsyncInMemoryPublisher, InMemoryPublisher
from meterstream.schemas.catalog import PriceLine, RateCardPublishedData
from meterstream.schemas.times import from_us

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CARD: dict[str, Any] = {
    "name": "default",
    "version": 1,
    "effective_from": "2026-01-01T00:00:00Z",
    "currency": "USD",
    "prices": [
        {
            "model": "m",
            "input_micro_per_1k": 3_000_000,
            "output_micro_per_1k": 15_000_000,
            "amount": {"input_micro_per_1k": 30_000, "output_micro_per_1k": 150_000},
        }
    ],
    "session_micro_per_second": {"small": 1_000},
}


def meter(prices: Prices | None) -> Meter:
    """Return a meter that publishes into memory."""
    return Meter(InMemoryPublisher(), source="/tests", registry=CollectorRegistry(), prices=prices)


def from_text(tmp_path: Path, text: str) -> Prices:
    """Return the prices of a file that holds this text."""
    path = tmp_path / "card.json"
    path.write_text(text)
    return Prices.from_file(path)


def test_an_estimate_tells_the_price_and_its_steps(tmp_path: Path) -> None:
    """Credits, amount and each component come from the card that was handed over."""
    publisher = InMemoryPublisher()
    prices = from_text(tmp_path, json.dumps(CARD))
    one = Meter(publisher, source="/tests", registry=CollectorRegistry(), prices=prices)
    price = one.estimate(model="m", input_tokens=2_000, output_tokens=100, at=NOW)
    assert (price.card, price.line, price.currency) == ("default@1", 0, "USD")
    assert (price.credits_micro, price.amount_micro) == (7_500_000, 75_000)
    assert [step.component for step in price.steps] == ["run", "input", "output"]
    assert publisher.events == []


def test_the_asynchronous_meter_estimates_alike(tmp_path: Path) -> None:
    """An estimate waits for nothing, so it is the same call."""
    prices = from_text(tmp_path, json.dumps([CARD]))
    publisher = AsyncInMemoryPublisher()
    one = AsyncMeter(publisher, source="/tests", registry=CollectorRegistry(), prices=prices)
    assert one.estimate(model="m", input_tokens=1, at=NOW).credits_micro == 3_000
    assert one.estimate_session(machine_size="small", seconds=60, at=NOW).credits_micro == 60_000


def test_nobody_knows_a_price_without_a_card(tmp_path: Path) -> None:
    """No card, none in effect yet, no line that fits, no such size: an error each, and never 0."""
    prices = from_text(tmp_path, json.dumps(CARD))
    with pytest.raises(PricesUnknown, match="this meter knows no rate card"):
        meter(None).estimate(model="m")
    with pytest.raises(PricesUnknown, match="default is in effect at 2025-12-31T00:00:00Z"):
        meter(prices).estimate(model="m", at=datetime(2025, 12, 31, tzinfo=UTC))
    with pytest.raises(NotPriced, match="default@1 has no price line for this run"):
        meter(prices).estimate(model="other", at=NOW)
    with pytest.raises(NotPriced, match="default@1 prices no machine of this size"):
        meter(prices).estimate_session(machine_size="huge", seconds=1, at=NOW)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("{}", "holds no rate card: name: Field required"),
        ('[{"name": 5}]', "holds no rate card: name: Input should be a valid string"),
    ],
)
def test_a_file_that_holds_no_card_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """The message names the file and the first fault."""
    with pytest.raises(InvalidPrices, match=reason) as refused:
        from_text(tmp_path, text)
    assert "card.json" in str(refused.value)


def test_prices_follow_the_catalog() -> None:
    """Cards, agents and premium features of the catalog price runs as the meter prices them."""
    prices = Prices()
    for key, value in (
        (b"rate-card/default/1", rate_card(1, 0)),
        (b"agent/agent-1", agent(1, "researcher")),
        (b"feature/feature-1", feature(1, premium=True)),
        (b"team/t", b"not looked at"),
        (b"rate-card/default/2", b"broken"),
        (b"agent/agent-2", None),
        (None, rate_card(3, 5)),
    ):
        prices.take(key, value, 0)
    price = meter(prices).estimate(operation="api_call", agent_id="agent-1", feature_id="feature-1")
    assert (price.agent_type_permille, price.premium_permille) == (1_337, 2_500)
    plain = meter(prices).estimate(operation="api_call", agent_id="agent-9")
    assert (plain.credits_micro, plain.multiplier_ppm) == (1, 1_000_000)


def test_a_card_that_the_meter_refuses_prices_nothing() -> None:
    """One that takes effect too soon, or in another one's place, is not followed."""
    prices = Prices()
    prices.take(b"rate-card/default/1", rate_card(1, 0), 0)
    prices.take(b"rate-card/default/2", rate_card(2, 5), 4)
    prices.take(b"rate-card/default/1", rate_card(1, 0, run_micro=9), 0)
    assert meter(prices).estimate().credits_micro == 100


def test_cards_may_be_handed_over_as_objects() -> None:
    """A service that has a card in its code needs no file."""
    card = RateCardPublishedData(
        name="default", version=1, effective_from=from_us(0), prices=(PriceLine(run_micro=5),)
    )
    assert meter(Prices([card])).estimate(operation="feature").credits_micro == 5
