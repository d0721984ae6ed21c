"""What a run costs: rate cards, the line of a card that fits, and exact integer arithmetic."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.catalog import PriceLine, RateCardPublishedData
from meterstream.schemas.times import to_us

DEFAULT_CARD: Final = "default"
"""The name of the card that prices every team."""
EXPLICIT: Final = "explicit"
UNPRICED: Final = "unpriced"

_SAFE: Final = 2**60
"""Seven products below this (bytes are priced twice) add up to less than 2^63."""

MAX_REMEMBERED_LINES: Final = 100_000

COMPONENTS: Final = 6
"""run, input, output, cached, reasoning, bytes; `explicit_micro` is not priced by a card."""


@dataclass(frozen=True, slots=True)
class Card:
    """A rate card that is in force from `effective_us` on."""

    label: str
    """name@version, as charges name it."""
    version: int
    effective_us: int
    lines: tuple[PriceLine, ...]

    @classmethod
    def of(cls, data: RateCardPublishedData) -> "Card":
        """Return the card that a `rate-card.published` event describes."""
        return cls(
            f"{data.name}@{data.version}", data.version, to_us(data.effective_from), data.prices
        )

    def line_for(
        self, operation: str, provider: str, model: str, feature_id: str
    ) -> PriceLine | None:
        """Return the most specific line that fits, the first of equals; None if none does.

        Lines for an agent type do not fit: the type of an agent is not looked up here.
        """
        best, best_rank = None, -1
        for line in self.lines:
            wanted = (
                (line.operation, operation),
                (line.provider, provider),
                (line.model, model),
                (line.feature_id, feature_id),
            )
            if line.agent_type is not None or any(
                want is not None and want != have for want, have in wanted
            ):
                continue
            rank = sum(want is not None for want, _ in wanted)
            if rank > best_rank:
                best, best_rank = line, rank
        return best


class PriceBook:
    """The cards that price runs, by the time from which they are in force. Immutable."""

    def __init__(self, cards: Iterable[Card] = ()) -> None:
        self.cards: Sequence[Card] = sorted(cards, key=lambda c: (c.effective_us, c.version))
        self._effective_us = np.array([card.effective_us for card in self.cards], np.int64)
        self._lines: dict[tuple[int, str, str, str, str], int] = {}
        self._line_prices: list[tuple[int, ...]] = [(0,) * 7]
        self._prices: NDArray[np.int64] = np.zeros((1, 7), np.int64)

    def card_at(self, times_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each time the index in `cards` of the card in force, -1 where none is."""
        return np.searchsorted(self._effective_us, times_us, side="right") - 1

    def trim(self) -> None:
        """Forget remembered lines when they are many: names are free text, and memory is not.

        Row numbers that `line_index` gave before mean nothing afterwards.
        """
        if len(self._lines) > MAX_REMEMBERED_LINES:
            self._lines.clear()
            del self._line_prices[1:]
            self._prices = self._prices[:1]

    def line_index(
        self, card: int, operation: str, provider: str, model: str, feature_id: str
    ) -> int:
        """Return which row of `prices` prices a run by `card`; 0 where nothing prices it."""
        if card < 0:
            return 0
        key = (card, operation, provider, model, feature_id)
        index = self._lines.get(key)
        if index is None:
            line = self.cards[card].line_for(operation, provider, model, feature_id)
            index = 0
            if line is not None:
                index = len(self._line_prices)
                self._line_prices.append(_prices_of(line))
            self._lines[key] = index
        return index

    def components(
        self,
        lines: NDArray[np.int64],
        tokens: Sequence[NDArray[np.int64]],
        sizes: Sequence[NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Return the credits of each run by component, in micro-credits, shape (6, runs).

        `tokens` are uncached input, plain output, cached and reasoning tokens; `sizes` request
        and response bytes. Each product is rounded half up to a whole micro-credit. Where a
        product could exceed 64 bits it is computed with Python's integers and cut at 2^60.
        """
        if len(self._prices) != len(self._line_prices):
            self._prices = np.array(self._line_prices, np.int64)
        prices = self._prices[lines]
        rows = [prices[:, 0]]
        rows += [_rounded(n, prices[:, 1 + i], 1_000) for i, n in enumerate(tokens)]
        rows.append(
            _rounded(sizes[0], prices[:, 5], 1_000_000)
            + _rounded(sizes[1], prices[:, 6], 1_000_000)
        )
        return np.stack(rows)


def _prices_of(line: PriceLine) -> tuple[int, ...]:
    cached, reasoning = line.cached_micro_per_1k, line.reasoning_micro_per_1k
    return (
        line.run_micro,
        line.input_micro_per_1k,
        line.output_micro_per_1k,
        line.input_micro_per_1k if cached is None else cached,
        line.output_micro_per_1k if reasoning is None else reasoning,
        line.request_micro_per_mb,
        line.response_micro_per_mb,
    )


def _rounded(amounts: NDArray[np.int64], prices: NDArray[np.int64], unit: int) -> NDArray[np.int64]:
    if not len(amounts):
        return amounts
    if int(amounts.max()) * int(prices.max()) < _SAFE:
        return (amounts * prices + unit // 2) // unit
    exact = (
        min((amount * price + unit // 2) // unit, _SAFE)
        for amount, price in zip(amounts.tolist(), prices.tolist(), strict=True)
    )
    return np.fromiter(exact, np.int64, len(amounts))
