"""Completed runs with their prices and cells."""

import numpy as np
import pytest
from tests.support.craft import MINUTE, NOW, Json, encode, run

from meterstream.schemas.catalog import PriceLine, RateCardPublishedData
from meterstream.schemas.times import from_us
from meterstream.streams.core import prices
from meterstream.streams.core.columns import run_columns, times_to_us
from meterstream.streams.core.decode import Completed, decode_event
from meterstream.streams.core.prices import Card, PriceBook
from meterstream.streams.core.pricing import Priced, price_runs


def price(*events: Json, cards: tuple[Card, ...] = (), book: PriceBook | None = None) -> Priced:
    """Price runs that stand at every second position of a batch."""
    runs = [decode_event(encode(event)) for event in events]
    assert all(isinstance(one, Completed) for one in runs)
    at = np.arange(len(runs)) * 2 + 1
    all_times = np.zeros(2 * len(runs) + 1, np.int64)
    all_times[at] = times_to_us([one.time for one in runs])
    columns = run_columns(runs, all_times[at])  # type: ignore[arg-type]
    return price_runs(book or PriceBook(cards), runs, at, columns, all_times)  # type: ignore[arg-type]


def card(version: int, effective_us: int, *lines: PriceLine) -> Card:
    """Return a version of the default card."""
    return Card.of(
        RateCardPublishedData(
            name="default", version=version, effective_from=from_us(effective_us), prices=lines
        )
    )


def labels(priced: Priced) -> list[str]:
    """Return what priced each run."""
    return [priced.labels[i] for i in priced.label.tolist()]


def test_runs_of_one_key_share_a_cell() -> None:
    """Each different key stands once, in the order of its first run, and each run names its own."""
    priced = price(
        run("a"), run("b", user_id="u"), run("c"), run("d", NOW + MINUTE), run("e", user_id="u")
    )
    assert priced.cell.tolist() == [0, 1, 0, 2, 1]
    assert [key[0] - NOW // 10**6 for key in priced.keys] == [0, 0, 60]
    assert [key[2] for key in priced.keys] == ["", "u", ""]
    assert priced.at.tolist() == [1, 3, 5, 7, 9]
    assert priced.times_us.tolist() == [NOW, NOW, NOW, NOW + MINUTE, NOW]


def test_cached_and_reasoning_tokens_are_not_priced_twice() -> None:
    """Input is what was not cached, output what was not reasoning; the parts add up."""
    line = PriceLine(
        run_micro=1, input_micro_per_1k=1_000, output_micro_per_1k=10_000,
        cached_micro_per_1k=100_000, reasoning_micro_per_1k=1_000_000,
        request_micro_per_mb=10**12, response_micro_per_mb=10**12,
    )  # fmt: skip
    priced = price(
        run(
            input_tokens=10, cached_tokens=3, output_tokens=20, reasoning_tokens=4,
            request_bytes=1, response_bytes=2,
        ),
        cards=(card(1, NOW, line),),
    )  # fmt: skip
    assert priced.components[:, 0].tolist() == [1, 7, 160, 300, 4_000, 3_000_000, 0, 0]
    assert priced.total_micro.tolist() == [3_004_468]


def test_explicit_credits_replace_every_price() -> None:
    """A run that names its credits costs these alone, none if it names none."""
    priced = price(
        run("a", credits_micro=5, input_tokens=9),
        run("b", credits_micro=0),
        run("c"),
        cards=(card(1, NOW, PriceLine(run_micro=7)),),
    )
    assert priced.components.tolist() == [[0, 0, 7], *[[0, 0, 0]] * 5, [5, 0, 0], [0] * 3]
    assert priced.total_micro.tolist() == [5, 0, 7]
    assert labels(priced) == ["explicit", "explicit", "default@1"]
    assert priced.unpriced.tolist() == [0, 0, 0]


def test_without_a_card_runs_are_unpriced() -> None:
    """No card, no card in force yet, or no line that fits: counted, and charged nothing."""
    cards = (card(1, NOW + 1, PriceLine(run_micro=7, model="m")),)
    assert labels(price(run("a"))) == ["unpriced"]
    late = NOW + 1
    priced = price(run("a"), run("b", late), run("c", late, model="m"), cards=cards)
    assert labels(priced) == ["unpriced", "unpriced", "default@1"]
    assert priced.unpriced.tolist() == [1, 1, 0]
    assert priced.total_micro.tolist() == [0, 0, 7]


def test_one_cell_may_be_priced_by_two_cards() -> None:
    """A card that takes effect within a minute prices its later runs, in any order of arrival."""
    cards = (card(1, NOW, PriceLine(run_micro=1)), card(2, NOW + 30, PriceLine(run_micro=2)))
    priced = price(
        run("a", NOW + 30), run("b", NOW), run("c", NOW + 29), run("d", NOW + 31), cards=cards
    )
    assert priced.cell.tolist() == [0, 0, 0, 0]
    assert labels(priced) == ["default@2", "default@1", "default@1", "default@2"]
    assert priced.total_micro.tolist() == [2, 1, 1, 2]


def test_lines_are_chosen_by_the_dimensions_of_the_cell() -> None:
    """Operation, provider, model and feature each choose, under one card or several."""
    lines = (
        PriceLine(run_micro=1, operation="feature"), PriceLine(run_micro=2, provider="p"),
        PriceLine(run_micro=3, model="m"), PriceLine(run_micro=4, feature_id="f"),
    )  # fmt: skip
    runs = [
        run("a", operation="feature"), run("b", provider="p"), run("c", model="m"),
        run("d", feature_id="f"), run("e", model="p", provider="m", product="f"),
    ]  # fmt: skip
    one = (card(1, NOW - 9, *lines),)
    assert price(*runs, cards=one).total_micro.tolist() == [1, 2, 3, 4, 0]
    earlier = run("z", NOW - 10, model="m")
    two = (card(1, NOW - 10, PriceLine(run_micro=50)), card(2, NOW - 9, *lines))
    assert price(*runs, earlier, cards=two).total_micro.tolist() == [1, 2, 3, 4, 0, 50]


def test_no_runs_are_priced_at_once() -> None:
    """An empty batch has no cells and costs nothing."""
    priced = price()
    assert (len(priced.keys), priced.components.shape, len(priced.total_micro)) == (0, (8, 0), 0)


def test_the_counted_ones_are_chosen_by_their_place_in_the_batch() -> None:
    """What is said of all events of a batch is looked up for its runs."""
    priced = price(run("a"), run("b"))
    assert priced.chosen(np.array([True, False, True, True, False])).tolist() == [False, True]


def test_what_is_remembered_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many models there have been, a book remembers few of them, and prices them all."""
    monkeypatch.setattr(prices, "MAX_REMEMBERED_LINES", 2)
    book = PriceBook([card(1, 0, PriceLine(run_micro=7))])
    for i in range(10):
        assert price(run(model=f"m-{i}"), book=book).total_micro.tolist() == [7]
    assert len(book._lines.row_of) <= 3
