"""Which version of a rate card may be published: the rules that span cards."""

from collections.abc import Iterable
from typing import Final

from .catalog import RateCardPublishedData
from .times import to_us

CARD_NOTICE_US: Final = 5 * 60 * 1_000_000
"""A card takes effect this long after it was published or later, so that all partitions know it."""


def why_refused(
    card: RateCardPublishedData, published: Iterable[RateCardPublishedData], log_time_us: int
) -> str | None:
    """Return why a new version of a card may not be published at `log_time_us`; None if it may.

    `published` are the cards that were accepted before. A card that prices what none did before
    may take effect at once.
    """
    others = [other for other in published if other.name == card.name]
    effective_us = to_us(card.effective_from)
    begins_us = [to_us(other.effective_from) for other in others]
    if effective_us in begins_us:
        return "data.effective_from: another version takes effect at this time"
    for other in others:
        if None not in (other.currency, card.currency) and other.currency != card.currency:
            return (
                f"data.currency: {other.label} is in {other.currency}, and all versions of a card"
                " are in one currency; publish it under another name"
            )
    priced_before = any(other_us <= max(effective_us, log_time_us) for other_us in begins_us)
    if priced_before and effective_us < log_time_us + CARD_NOTICE_US:
        return "data.effective_from: must lie five minutes or more after the card is published"
    return None
