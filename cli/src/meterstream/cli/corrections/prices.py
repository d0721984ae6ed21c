"""What runs cost by the cards of the catalog."""

from dataclasses import dataclass
from datetime import datetime

from meterstream.cli.entries.known import KnownCatalog
from meterstream.cli.errors import BadInput
from meterstream.schemas.catalog import (
    DEFAULT_CARD,
    AgentRegistered,
    FeatureRegistered,
    RateCardPublished,
    RateCardPublishedData,
)
from meterstream.schemas.pricing import EXPLICIT, Price, RunToPrice, card_at, price_run
from meterstream.schemas.times import from_us

from .runs import CountedRun

_PRICED_BY = (
    "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "request_bytes",
    "response_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prices:
    """The cards, and what they ask for: the types of agents and which features are premium."""

    cards: dict[str, RateCardPublishedData]
    """By label, name@version."""
    agent_types: dict[str, str]
    premium: frozenset[str]

    @classmethod
    def of(cls, catalog: KnownCatalog) -> "Prices":
        """Return what the catalog says now."""
        cards = (event.data for event in catalog.of(RateCardPublished))
        agents = (event.data for event in catalog.of(AgentRegistered))
        features = (event.data for event in catalog.of(FeatureRegistered))
        return cls(
            {card.label: card for card in cards},
            {agent.agent_id: agent.agent_type for agent in agents},
            frozenset(feature.feature_id for feature in features if feature.premium),
        )

    def card(self, label: str) -> RateCardPublishedData:
        """Return a card; BadInput where there is none of this name."""
        if label not in self.cards:
            raise BadInput(f"there is no card {label}: `meterstream cards list` names them")
        return self.cards[label]

    def in_effect(self, moment: datetime) -> RateCardPublishedData | None:
        """Return the card that prices runs at a moment."""
        return card_at(self.cards.values(), moment, DEFAULT_CARD)

    def price(self, run: CountedRun, amounts: dict[str, int], card: str | None = None) -> Price:
        """Return what a run of these amounts costs: by this card, else the one in effect then.

        A run that named its credits itself costs those.
        """
        chosen = self.card(card) if card else self.in_effect(from_us(run.time_us))
        return price_run(
            chosen,
            RunToPrice(
                operation=run.operation,
                provider=run.provider,
                model=run.model,
                feature_id=run.feature_id,
                agent_type=self.agent_types.get(run.agent_id, ""),
                premium=run.feature_id in self.premium,
                credits_micro=run.amounts["credits_micro"] if run.card == EXPLICIT else None,
                **{name: amounts[name] for name in _PRICED_BY},
            ),
        )
