"""What runs would cost: the cards, agents and features that an estimate is made from."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, Self

from pydantic import ValidationError

from meterstream.schemas.catalog import (
    DEFAULT_CARD,
    AgentRegistered,
    FeatureRegistered,
    RateCardPublished,
    RateCardPublishedData,
    catalog_key,
)
from meterstream.schemas.pricing import (
    Price,
    RunToPrice,
    SessionToPrice,
    card_at,
    price_run,
    price_session,
)
from meterstream.schemas.rate_cards import why_refused
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.times import format_rfc3339
from meterstream.schemas.topics import CATALOG

from .exceptions import InvalidPrices, NotPriced, PricesUnknown


class PriceSource(Protocol):
    """Where a meter gets the prices of its estimates."""

    def prices(self) -> "Prices":
        """Return the prices as they are known now; PricesUnknown while there are none."""


class Prices:
    """Rate cards, and the agents and features that they ask for.

    Made from cards that are at hand, or filled with catalog entries by a `PriceFollower`. Whether
    one thread fills while others ask makes no difference.
    """

    def __init__(self, cards: Iterable[RateCardPublishedData] = ()) -> None:
        self._cards: dict[str, RateCardPublishedData] = {}
        self._agent_types: dict[str, str] = {}
        self._premium: dict[str, bool] = {}
        for card in cards:
            self._cards[card.label] = card

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        """Return the prices of a JSON file: the `data` of one rate card, or a list of such.

        Raises InvalidPrices if it holds anything else.
        """
        try:
            document = json.loads(Path(path).read_text("utf-8"))
            cards = document if isinstance(document, list) else [document]
            return cls(RateCardPublishedData.model_validate_json(json.dumps(one)) for one in cards)
        except OSError as error:
            raise InvalidPrices(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)
            where = ".".join(str(part) for part in faults[0]["loc"])
            raise InvalidPrices(f"{path} holds no rate card: {where}: {faults[0]['msg']}") from None
        except ValueError:
            raise InvalidPrices(f"{path} is not JSON") from None

    def prices(self) -> "Prices":
        """Return itself: prices that are at hand are a source of prices."""
        return self

    def take(self, key: bytes | None, value: bytes | None, log_time_us: int) -> None:
        """Take an entry of the catalog topic; what does not bear on prices is passed over.

        Cards that the meter refuses are none here either.
        """
        if key is None or value is None or not key.startswith(_BEARING):
            return
        try:
            event = parse_event(value, CATALOG)
        except InvalidEvent:
            return
        if isinstance(event, AgentRegistered):
            self._agent_types[event.data.agent_id] = event.data.agent_type
        elif isinstance(event, FeatureRegistered):
            self._premium[event.data.feature_id] = event.data.premium
        elif isinstance(event, RateCardPublished) and catalog_key(event).encode() == key:
            card = event.data
            is_new = card.label not in self._cards
            if is_new and why_refused(card, self._cards.values(), log_time_us) is None:
                self._cards = {**self._cards, card.label: card}

    def of_run(self, run: RunToPrice, agent_id: str, moment: datetime) -> Price:
        """Return what a run would cost at a moment; PricesUnknown or NotPriced if nobody knows."""
        card = self._card_at(moment)
        price = price_run(
            card,
            RunToPrice(
                operation=run.operation,
                provider=run.provider,
                model=run.model,
                feature_id=run.feature_id,
                agent_type=self._agent_types.get(agent_id, ""),
                premium=self._premium.get(run.feature_id, False),
                input_tokens=run.input_tokens,
                output_tokens=run.output_tokens,
                cached_tokens=run.cached_tokens,
                reasoning_tokens=run.reasoning_tokens,
                request_bytes=run.request_bytes,
                response_bytes=run.response_bytes,
            ),
        )
        if not price.is_priced:
            raise NotPriced(
                f"{card.label} has no price line for this run (operation, provider, model, feature"
                " and agent type): it would be counted as unpriced. Publish a version of the card"
                " that names it"
            )
        return price

    def of_session(
        self, machine_size: str, elapsed_us: int, agent_id: str, moment: datetime
    ) -> Price:
        """Return what session time would cost at a moment, as `of_run` does for a run."""
        card = self._card_at(moment)
        agent_type = self._agent_types.get(agent_id, "")
        price = price_session(
            card,
            SessionToPrice(machine_size=machine_size, elapsed_us=elapsed_us, agent_type=agent_type),
        )
        if price is None:
            return Price(card.label, machine_size=machine_size, currency=card.currency)
        if not price.is_priced:
            raise NotPriced(
                f"{card.label} prices no machine of this size: its time would be counted as"
                " unpriced. Publish a version of the card that names it"
            )
        return price

    def _card_at(self, moment: datetime) -> RateCardPublishedData:
        card = card_at(self._cards.values(), moment)
        if card is None:
            raise PricesUnknown(
                f"no version of the rate card {DEFAULT_CARD} is in effect at"
                f" {format_rfc3339(moment)}: {len(self._cards)} cards are known. Publish one with"
                " `meterstream cards`, or hand one to the meter"
            )
        return card


_BEARING: Final = (b"rate-card/", b"agent/", b"feature/")
"""What the keys of entries begin with that bear on prices."""


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)
