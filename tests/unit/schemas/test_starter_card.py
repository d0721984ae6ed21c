"""The rate card to begin with: whole, sourced and dated."""

from datetime import date
from fractions import Fraction

from meterstream.cli.traffic.population import MODELS
from meterstream.schemas.pricing import RunToPrice, price_run
from meterstream.schemas.starter_card import starter_card, starter_prices
from meterstream.schemas.times import from_us

CARD = starter_card(1, from_us(0))


def test_every_price_names_its_pages_and_the_day_they_were_read() -> None:
    """No model without a source, and no source without a page and a day."""
    prices = starter_prices()
    used = set()
    for model in prices["models"]:
        assert model["sources"]
        used |= set(model["sources"])
    assert used == prices["sources"].keys()
    for source in prices["sources"].values():
        assert source["page"].startswith("https://")
        assert source.get("of", "https://").startswith("https://")
        read = date.fromisoformat(source["read"])
        assert date.fromisoformat(source.get("as_of", "2026-01-01")) <= read
        assert read <= date.fromisoformat(prices["date"])


def test_each_model_has_one_line() -> None:
    """A model of a provider stands once, and its prices are what the page says."""
    assert len({(line.provider, line.model) for line in CARD.prices}) == len(CARD.prices)
    for line, model in zip(CARD.prices, starter_prices()["models"], strict=True):
        assert line.cost is not None
        assert Fraction(line.cost.input_micro_per_1k, 1_000) == Fraction(model["input"])
        assert line.input_micro_per_1k == 100 * line.cost.input_micro_per_1k
        assert line.output_micro_per_1k > line.input_micro_per_1k


def test_a_credit_is_a_cent() -> None:
    """A million input tokens at two dollars cost 200 credits, and two dollars."""
    run = RunToPrice(
        operation="agent_run",
        provider="anthropic",
        model="claude-sonnet-5-5",
        input_tokens=1_000_000,
    )
    price = price_run(CARD, run)
    assert (price.credits_micro, price.cost_micro) == (200_000_000, 2_000_000)


def test_the_models_of_the_demonstration_are_priced() -> None:
    """Whoever replaces the demonstration's card by this one leaves no run unpriced."""
    for model, provider in MODELS:
        run = RunToPrice(operation="agent_run", provider=provider, model=model)
        assert price_run(CARD, run).is_priced, model
