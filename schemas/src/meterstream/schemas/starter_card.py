"""A rate card to begin with: list prices of common models, with the pages that they are from.

A credit is worth a US cent: a run costs as many credits as its tokens cost cents by the list, and
`cost` holds the same in millionths of a dollar. Prices change; the file tells the day on which each
page was read, and what no page told is left out rather than guessed.
"""

import json
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Final

from .catalog import DEFAULT_CARD, PriceLine, RateCardPublishedData, UnitPrices

MICRO_CREDITS_PER_1K: Final = 100_000
"""A dollar for a million tokens, in micro-credits for a thousand, where a credit is a cent."""
MICRO_DOLLARS_PER_1K: Final = 1_000


@cache
def starter_prices() -> dict[str, Any]:
    """Return the file: `date`, `sources` by name, and `models` with their prices as text."""
    text = files(__package__).joinpath("starter_card.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def starter_card(version: int, effective_from: datetime) -> RateCardPublishedData:
    """Return a version of the default card that prices runs by the list."""
    return RateCardPublishedData(
        name=DEFAULT_CARD,
        version=version,
        currency="USD",
        effective_from=effective_from,
        prices=tuple(_line(model) for model in starter_prices()["models"]),
    )


def _line(model: dict[str, Any]) -> PriceLine:
    return PriceLine(
        provider=model["provider"],
        model=model["model"],
        **_prices(model, MICRO_CREDITS_PER_1K),
        cost=UnitPrices(**_prices(model, MICRO_DOLLARS_PER_1K)),
    )


def _prices(model: dict[str, Any], dollar: int) -> dict[str, Any]:
    """Return the prices of a model for a thousand tokens; ValueError if one is not whole."""
    found = {}
    for kind in ("input", "cached", "output"):
        if kind in model:
            exact = Decimal(model[kind]) * dollar
            if exact != int(exact):
                raise ValueError(f"{model['model']}: {kind} is no whole number of millionths")
            found[f"{kind}_micro_per_1k"] = int(exact)
    return found
