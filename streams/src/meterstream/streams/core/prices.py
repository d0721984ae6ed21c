"""What runs cost: the cards in force, the lines that fit, and exact arithmetic on arrays.

`meterstream.schemas.pricing` prices one run at a time and comes to the same amounts.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.catalog import RateCardPublishedData
from meterstream.schemas.pricing import (
    ONE_PERMILLE,
    ONE_PPM,
    PER_BYTES,
    PER_RUN,
    PER_TOKENS,
    line_for,
    multipliers_of,
    unit_prices,
)
from meterstream.schemas.times import to_us

from .cells import CellKey

_I64 = NDArray[np.int64]

_SAFE: Final = 2**60
"""Seven products below this (bytes are priced twice) add up to less than 2^63."""

MAX_REMEMBERED_LINES: Final = 100_000

UNPRICED_CARD: Final = -1
"""The number of a card where there is none."""

COMPONENTS: Final = 6
"""run, input, output, cached, reasoning, bytes: what lines of a card price."""
_UNIT_PRICES: Final = 7
"""The same with bytes of requests and of responses apart."""


@dataclass(frozen=True, slots=True)
class Card:
    """A rate card that is in force from `effective_us` on."""

    data: RateCardPublishedData
    effective_us: int
    asks_agent_types: bool
    """Whether a price depends on the type of the agent."""
    asks_premium: bool
    """Whether a price depends on whether the feature is a premium one."""

    @classmethod
    def of(cls, data: RateCardPublishedData) -> "Card":
        """Return the card that a `rate-card.published` event describes."""
        by_type = any(line.agent_type is not None for line in data.prices)
        return cls(
            data,
            to_us(data.effective_from),
            by_type or bool(data.agent_type_multiplier_permille),
            data.premium_multiplier_permille != ONE_PERMILLE,
        )


class _Lines:
    """The prices that were asked for so far, one row each; row 0 prices nothing."""

    def __init__(self) -> None:
        self.row_of: dict[tuple[int, str, str, str, str, str, bool], int] = {}
        self._rows: list[tuple[int, ...]] = [(0,) * _UNIT_PRICES]
        self._amounts: list[tuple[int, ...]] = [(0,) * _UNIT_PRICES]
        self._costs: list[tuple[int, ...]] = [(0,) * _UNIT_PRICES]
        self._factors: list[tuple[int, int]] = [(1, 1)]
        self._numbers = [-1]
        self._multipliers_ppm = [ONE_PPM]
        self._table: _Table | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, card: RateCardPublishedData, number: int, multiplier_ppm: int) -> int:
        """Return the new row of a line of a card, with what its prices are multiplied by."""
        line, shared = card.prices[number], gcd(multiplier_ppm, ONE_PPM)
        none = (0,) * _UNIT_PRICES
        self._rows.append(unit_prices(line))
        self._amounts.append(none if line.amount is None else unit_prices(line.amount))
        self._costs.append(none if line.cost is None else unit_prices(line.cost))
        self._factors.append((multiplier_ppm // shared, ONE_PPM // shared))
        self._numbers.append(number)
        self._multipliers_ppm.append(multiplier_ppm)
        self._table = None
        return len(self._rows) - 1

    def table(self) -> "_Table":
        """Return the rows as arrays."""
        if self._table is None:
            self._table = _Table(
                *(
                    np.array(rows, np.int64)
                    for rows in (
                        self._rows, self._amounts, self._costs, self._factors,
                        self._numbers, self._multipliers_ppm,
                    )
                )
            )  # fmt: skip
        return self._table


@dataclass(frozen=True)
class _Table:
    """Prices by row: shape (rows, 7) for credits, amounts and costs."""

    credits: _I64
    amounts: _I64
    costs: _I64
    factors: _I64
    """Numerator and denominator of the multiplier, shape (rows, 2)."""
    number: _I64
    """Which line of its card a row is."""
    multiplier_ppm: _I64

    @cached_property
    def multiplies(self) -> bool:
        """Whether a row has a multiplier other than one."""
        return bool((self.factors != 1).any())

    @cached_property
    def in_money(self) -> bool:
        """Whether a row has a price in a currency, or a cost."""
        return bool(self.amounts.any() or self.costs.any())


@dataclass(frozen=True, slots=True)
class Quantities:
    """How much of what each run used. All arrays have one length."""

    tokens: Sequence[_I64]
    """Uncached input, plain output, cached and reasoning tokens."""
    sizes: Sequence[_I64]
    """Request and response bytes."""


class PriceBook:
    """The cards that price runs, by the time from which they are in force. Immutable."""

    def __init__(self, cards: Iterable[Card] = ()) -> None:
        self.cards: Sequence[Card] = sorted(
            cards, key=lambda card: (card.effective_us, card.data.version)
        )
        self.labels: Sequence[str] = [card.data.label for card in self.cards]
        self._begins_us = [card.effective_us for card in self.cards]
        self._effective_us = np.array(self._begins_us, np.int64)
        self._agent_types: Mapping[str, str] = {}
        self._premium: frozenset[str] = frozenset()
        self._lines = _Lines()

    def knowing(self, agent_types: Mapping[str, str], premium: frozenset[str]) -> "PriceBook":
        """Return the same cards for other agents and premium features."""
        book = copy(self)
        book._agent_types, book._premium = agent_types, premium
        return book

    def card_at(self, times_us: _I64) -> _I64:
        """Return for each time the index in `cards` of the card in force, -1 where none is."""
        return np.searchsorted(self._effective_us, times_us, side="right") - 1

    def number_at(self, time_us: int) -> int:
        """Return for one time what `card_at` returns for many."""
        return bisect_right(self._begins_us, time_us) - 1

    def trim(self) -> None:
        """Forget remembered lines when they are many: names are free text, and memory is not.

        Row numbers that `line_index` gave before mean nothing afterwards.
        """
        if len(self._lines.row_of) > MAX_REMEMBERED_LINES:
            self._lines = _Lines()

    def type_of(self, agent_id: str) -> str:
        """Return the type of an agent, empty where the catalog has no such agent."""
        return self._agent_types.get(agent_id, "")

    def line_index(self, card: int, key: CellKey) -> int:
        """Return which row of prices prices the runs of a cell by `card`; 0 where none does."""
        if card < 0:
            return 0
        one = self.cards[card]
        agent_type = self.type_of(key[4]) if one.asks_agent_types else ""
        premium = one.asks_premium and key[7] in self._premium
        asked = (card, key[9], key[6], key[5], key[7], agent_type, premium)
        row = self._lines.row_of.get(asked)
        if row is None:
            number = line_for(one.data, *asked[1:6])
            row = 0
            if number is not None:
                by_type, by_premium = multipliers_of(one.data, agent_type, premium=premium)
                row = self._lines.add(one.data, number, by_type * by_premium)
            self._lines.row_of[asked] = row
        return row

    def components(self, rows: _I64, quantities: Quantities) -> _I64:
        """Return the credits of each run by component, in micro-credits, shape (6, runs).

        Each product of a quantity, a price and the multipliers is rounded half up to a whole
        micro-credit. Where it could exceed 64 bits it is computed with Python's integers and cut
        at 2^60.
        """
        table = self._lines.table()
        factors = table.factors[rows] if table.multiplies else None
        priced = _products(quantities, table.credits[rows], factors)
        priced[5] += priced.pop()
        return np.stack(priced)

    def money(self, rows: _I64, quantities: Quantities) -> tuple[_I64, _I64]:
        """Return the price of each run in the card's currency, and its cost, in millionths.

        Both are rounded as `components` are, and summed up. No multiplier raises the cost.
        """
        table = self._lines.table()
        if not table.in_money:
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        factors = table.factors[rows] if table.multiplies else None
        amounts = _products(quantities, table.amounts[rows], factors)
        costs = _products(quantities, table.costs[rows], None)
        return np.sum(amounts, axis=0), np.sum(costs, axis=0)

    def lines(self, rows: _I64) -> tuple[_I64, _I64]:
        """Return which line of its card priced each run, -1 for none, and its multiplier (ppm)."""
        table = self._lines.table()
        return table.number[rows], table.multiplier_ppm[rows]


def _products(quantities: Quantities, prices: _I64, factors: _I64 | None) -> list[_I64]:
    """Return run, input, output, cached, reasoning, request and response, rounded half up."""
    found = [prices[:, 0]]
    if factors is not None:
        found = [_rounded(np.ones(len(prices), np.int64), prices[:, 0], PER_RUN, factors)]
    for i, amounts in enumerate(quantities.tokens, 1):
        found.append(_rounded(amounts, prices[:, i], PER_TOKENS, factors))
    for i, amounts in enumerate(quantities.sizes, 5):
        found.append(_rounded(amounts, prices[:, i], PER_BYTES, factors))
    return found


def _rounded(amounts: _I64, prices: _I64, unit: int, factors: _I64 | None) -> _I64:
    if not len(amounts):
        return amounts
    bound = int(amounts.max()) * int(prices.max())
    if factors is None:
        if bound < _SAFE:
            return (amounts * prices + unit // 2) // unit
        factors = np.ones((len(amounts), 2), np.int64)
    numerators, units = factors[:, 0], factors[:, 1] * unit
    if bound * int(numerators.max()) < _SAFE:
        return (amounts * prices * numerators + units // 2) // units
    exact = (
        min((amount * price * numerator + units // 2) // units, _SAFE)
        for amount, price, numerator, units in zip(
            amounts.tolist(), prices.tolist(), numerators.tolist(), units.tolist(), strict=True
        )
    )
    return np.fromiter(exact, np.int64, len(amounts))
