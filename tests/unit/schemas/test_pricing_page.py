"""The example of docs/pricing.md, computed as it stands there."""

import json
import re
from pathlib import Path

from meterstream.schemas.catalog import RateCardPublishedData
from meterstream.schemas.pricing import PriceStep, RunToPrice, price_run

PAGE = (Path(__file__).parents[3] / "docs" / "pricing.md").read_text()
RUN = RunToPrice(
    operation="agent_run",
    provider="anthropic",
    model="claude-sonnet-5",
    agent_type="researcher",
    premium=True,
    input_tokens=12_345,
    cached_tokens=10_000,
    output_tokens=789,
)


def test_the_example_of_the_page_is_right() -> None:
    """The table's quantities, amounts and sums are what the card of the page makes of the run."""
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    price = price_run(RateCardPublishedData.model_validate_json(json.dumps(json.loads(text))), RUN)
    assert (price.line, price.multiplier_ppm) == (1, 1_800_000)
    for step in price.steps:
        assert _row(step) in PAGE
    sums = price.credits_micro, price.amount_micro, price.cost_micro
    assert "| **sum** | | **{}** | **{}** | **{}** |".format(*sums) in PAGE


def _row(step: PriceStep) -> str:
    assert step.amount is not None
    assert step.cost is not None
    return (
        f"| {step.component} | {step.quantity:,} | {step.credits.micro} | {step.amount.micro}"
        f" | {step.cost.micro} |"
    )
