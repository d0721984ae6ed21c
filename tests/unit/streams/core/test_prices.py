"""What a run costs: the card in force, the line that fits, and exact arithmetic."""

from typing import Any

import numpy as np
import pytest

from meterstream.schemas.catalog import PriceLine, RateCardPublishedData, UnitPrices
from meterstream.schemas.times import from_us
from meterstream.streams.core import prices as module
from meterstream.streams.core.cells import CellKey
from meterstream.streams.core.prices import Card, PriceBook, Quantities

HALF = 2**60


def card(version: int = 1, effective_us: int = 0, *lines: PriceLine, **more: Any) -> Card:
    """Return a card of the default name."""
    return Card.of(
        RateCardPublishedData(
            name="default",
            version=version,
            effective_from=from_us(effective_us),
            prices=lines,
            **more,
        )
    )


def key(
    operation: str = "agent_run",
    provider: str = "",
    model: str = "",
    feature_id: str = "",
    agent_id: str = "",
) -> CellKey:
    """Return the key of a cell."""
    return 0, "t", "", "", agent_id, model, provider, feature_id, "", operation


def quantities(count: int, *tokens: int, sizes: tuple[int, int] = (0, 0)) -> Quantities:
    """Return runs that all used the same."""
    padded = (*tokens, 0, 0, 0, 0)[:4]
    return Quantities(
        [np.full(count, n, np.int64) for n in padded], [np.full(count, n, np.int64) for n in sizes]
    )


def components(
    line: PriceLine,
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0),
    sizes: tuple[int, int] = (0, 0),
) -> list[int]:
    """Return run, input, output, cached, reasoning and bytes credits of one run."""
    book = PriceBook([card(1, 0, line)])
    index = book.line_index(0, key())
    found = book.components(np.array([index]), quantities(1, *tokens, sizes=sizes))
    assert found.shape == (6, 1)
    return [int(row[0]) for row in found]


def test_a_card_is_named_by_name_and_version() -> None:
    """Charges name a card as name@version; its time is in microseconds since 1970."""
    made = card(7, 86_400_000_000, PriceLine(run_micro=5))
    assert (made.data.label, made.effective_us) == ("default@7", 86_400_000_000)
    assert PriceBook([made]).labels == ["default@7"]


def test_the_card_in_force_is_the_latest_that_has_begun() -> None:
    """A card holds from its very microsecond until the next one's; before the first none does."""
    book = PriceBook([card(3, 300), card(1, 100), card(2, 200)])
    assert [one.data.version for one in book.cards] == [1, 2, 3]
    times = np.array([99, 100, 199, 200, 299, 300, 10**18], np.int64)
    assert book.card_at(times).tolist() == [-1, 0, 0, 1, 1, 2, 2]


def test_of_cards_that_begin_together_the_higher_version_holds() -> None:
    """Equal times do not leave the price to chance."""
    book = PriceBook([card(2, 100), card(1, 100)])
    assert [book.cards[i].data.version for i in book.card_at(np.array([100])).tolist()] == [2]


def test_without_cards_nothing_is_in_force() -> None:
    """An empty book prices nothing, at no time."""
    book = PriceBook()
    assert book.card_at(np.array([0, 10**18])).tolist() == [-1, -1]
    assert book.line_index(-1, key()) == 0


def line_of(*lines: PriceLine, agent_type: str = "", **run: str) -> int | None:
    """Return the `run_micro` of the line that fits a run, None if none does."""
    plain = {"operation": "agent_run", "provider": "p", "model": "m", "feature_id": "f"}
    book = PriceBook([card(1, 0, *lines)]).knowing({"a": agent_type}, frozenset())
    row = book.line_index(0, key(**plain | run, agent_id="a"))
    if not row:
        return None
    return int(book.components(np.array([row]), quantities(1))[0, 0])


@pytest.mark.parametrize(
    "criterion",
    [{"operation": "api_call"}, {"provider": "x"}, {"model": "x"}, {"feature_id": "x"}],
    ids=str,
)
def test_a_line_fits_only_what_it_names(criterion: dict[str, str]) -> None:
    """Each criterion must equal the run's; an absent one fits all."""
    line = PriceLine(run_micro=1, **criterion)  # type: ignore[arg-type]
    assert line_of(line) is None
    assert line_of(line, **criterion) == 1
    assert line_of(PriceLine(run_micro=2), **criterion) == 2


def test_the_line_with_the_most_criteria_wins() -> None:
    """However they are ordered, two criteria beat one, and one beats none."""
    lines = [
        PriceLine(run_micro=1),
        PriceLine(run_micro=3, model="m", provider="p"),
        PriceLine(run_micro=2, model="m"),
        PriceLine(run_micro=9, model="x", provider="p", feature_id="f"),
    ]
    assert line_of(*lines) == line_of(*reversed(lines)) == 3
    assert line_of(*lines, provider="q") == 2
    assert line_of(*lines, model="n") == 1


def test_of_equals_the_first_line_wins() -> None:
    """Two lines with as many criteria are told apart by their order."""
    assert line_of(PriceLine(run_micro=1, model="m"), PriceLine(run_micro=2, provider="p")) == 1
    assert line_of(PriceLine(run_micro=2, provider="p"), PriceLine(run_micro=1, model="m")) == 2
    assert line_of(PriceLine(run_micro=1), PriceLine(run_micro=2)) == 1


def test_a_line_for_an_agent_type_fits_agents_of_that_type() -> None:
    """The catalog says the type of an agent; one that is not registered has none."""
    lines = PriceLine(run_micro=1, agent_type="a", model="m"), PriceLine(run_micro=2)
    assert line_of(*lines, agent_type="a") == 1
    assert line_of(*lines, agent_type="b") == 2
    assert line_of(*lines) == 2
    assert line_of(lines[0]) is None


def test_agents_and_features_may_change_under_the_same_cards() -> None:
    """A book that knows other agents prices by them, and the book before stays as it was."""
    lines = PriceLine(run_micro=1, agent_type="a"), PriceLine(run_micro=2)
    before = PriceBook([card(1, 0, *lines, premium_multiplier_permille=3000)])
    after = before.knowing({"one": "a"}, frozenset({"f"}))

    def run_micro(book: PriceBook) -> int:
        row = book.line_index(0, key(agent_id="one", feature_id="f"))
        return int(book.components(np.array([row]), quantities(1))[0, 0])

    assert [run_micro(book) for book in (before, after, before)] == [2, 3, 2]


@pytest.mark.parametrize(
    ("by_type", "by_premium", "price", "micro"),
    [
        (1_000, 1_000, 7, 7),
        (1_500, 1_000, 7, 11),
        (1_500, 1_000, 5, 8),
        (1_000, 499, 1, 0),
        (1_000, 500, 1, 1),
        (1_500, 1_500, 2, 5),
        (333, 1_000, 3, 1),
        (0, 1_000, 10**12, 0),
        (999_999, 999_999, 10**12 - 1, ((10**12 - 1) * 999_999**2 + 500_000) // 10**6),
    ],
)
def test_both_multipliers_apply_before_the_one_rounding(
    by_type: int, by_premium: int, price: int, micro: int
) -> None:
    """The agent's type and a premium feature multiply each other, and then it is rounded."""
    one = card(
        1, 0, PriceLine(run_micro=price),
        agent_type_multiplier_permille={"researcher": by_type},
        premium_multiplier_permille=by_premium,
    )  # fmt: skip
    book = PriceBook([one]).knowing({"a": "researcher"}, frozenset({"f"}))
    row = book.line_index(0, key(agent_id="a", feature_id="f"))
    assert book.components(np.array([row]), quantities(1))[0].tolist() == [micro]
    lines, multipliers = book.lines(np.array([row, 0]))
    assert lines.tolist() == [0, -1]
    assert multipliers.tolist() == [by_type * by_premium, 10**6]


def test_amounts_and_costs_stand_beside_credits() -> None:
    """A line's prices in the currency are multiplied as credits are, the provider's cost is not."""
    line = PriceLine(
        run_micro=1,
        amount=UnitPrices(run_micro=10, input_micro_per_1k=1_000),
        cost=UnitPrices(run_micro=3, output_micro_per_1k=500),
    )
    one = card(
        1, 0, line, PriceLine(run_micro=5, model="m"), currency="EUR",
        agent_type_multiplier_permille={"researcher": 2_000},
    )  # fmt: skip
    book = PriceBook([one]).knowing({"a": "researcher"}, frozenset())
    keys = key(agent_id="a"), key(), key(model="m")
    rows = np.array([book.line_index(0, one) for one in keys])
    amounts, costs = book.money(rows, quantities(3, 4, 1))
    assert amounts.tolist() == [28, 14, 0]
    assert costs.tolist() == [4, 4, 0]


def test_without_a_price_in_a_currency_amounts_are_nothing() -> None:
    """A card in credits alone has no amounts and no costs."""
    book = PriceBook([card(1, 0, PriceLine(run_micro=1))])
    amounts, costs = book.money(np.array([book.line_index(0, key())]), quantities(1))
    assert (amounts.tolist(), costs.tolist()) == ([0], [0])


def test_each_component_is_priced_by_its_own_price() -> None:
    """Tokens cost by the thousand, bytes by the million, a run by itself."""
    line = PriceLine(
        run_micro=7,
        input_micro_per_1k=1_000,
        output_micro_per_1k=2_000,
        cached_micro_per_1k=3_000,
        reasoning_micro_per_1k=4_000,
        request_micro_per_mb=5_000_000,
        response_micro_per_mb=6_000_000,
    )
    assert components(line, (1, 10, 100, 1_000), (10_000, 1)) == [7, 1, 20, 300, 4_000, 50_006]


def test_cached_and_reasoning_tokens_cost_what_their_kind_costs() -> None:
    """Without a price of their own they cost as input and output tokens do; a price of 0 is one."""
    line = PriceLine(input_micro_per_1k=1_000, output_micro_per_1k=2_000)
    assert components(line, (0, 0, 5, 5)) == [0, 0, 0, 5, 10, 0]
    free = line.model_copy(update={"cached_micro_per_1k": 0, "reasoning_micro_per_1k": 0})
    assert components(free, (0, 0, 5, 5)) == [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("tokens", "price", "micro"),
    [
        (1, 499, 0),
        (1, 500, 1),
        (1, 501, 1),
        (1, 1_499, 1),
        (1, 1_500, 2),
        (3, 500, 2),
        (0, 500, 0),
        (333, 3, 1),
    ],
)
def test_tokens_are_rounded_half_up(tokens: int, price: int, micro: int) -> None:
    """Half a micro-credit is one, less is none, for each component alone."""
    line = PriceLine(input_micro_per_1k=price, output_micro_per_1k=price)
    assert components(line, (tokens, tokens, tokens, tokens)) == [0, micro, micro, micro, micro, 0]


@pytest.mark.parametrize(
    ("size", "price", "micro"), [(1, 499_999, 0), (1, 500_000, 1), (999_999, 1, 1), (499_999, 1, 0)]
)
def test_bytes_are_rounded_half_up_each_way(size: int, price: int, micro: int) -> None:
    """Requests and responses are rounded apart and then added."""
    line = PriceLine(request_micro_per_mb=price, response_micro_per_mb=price)
    assert components(line, sizes=(size, 0))[5] == micro
    assert components(line, sizes=(0, size))[5] == micro
    assert components(line, sizes=(size, size))[5] == 2 * micro


@pytest.mark.parametrize(
    ("tokens", "price"),
    [
        (10**9, 10**9),
        (2**30, 2**30),
        (2**30, 2**30 - 1),
        (10**9, 10**12),
        (10**9 - 1, 10**12 - 1),
    ],
)
def test_products_beyond_64_bits_are_exact_up_to_a_bound(tokens: int, price: int) -> None:
    """A product that 64 bits do not hold is computed exactly, and cut at 2^60."""
    exact = min((tokens * price + 500) // 1_000, HALF)
    line = PriceLine(input_micro_per_1k=price, output_micro_per_1k=price)
    assert components(line, (tokens, tokens, tokens, tokens)) == [0, exact, exact, exact, exact, 0]


def test_the_largest_run_there_can_be_does_not_wrap_around() -> None:
    """All components at their bounds add up to a positive number far above what is allowed."""
    most = 10**12
    line = PriceLine(
        run_micro=most,
        input_micro_per_1k=most,
        output_micro_per_1k=most,
        cached_micro_per_1k=most,
        reasoning_micro_per_1k=most,
        request_micro_per_mb=most,
        response_micro_per_mb=most,
    )
    found = components(line, (10**9, 10**9, 10**9, 10**9), (10**12, 10**12))
    assert found == [most, 10**18, 10**18, 10**18, 10**18, 2 * 10**18]
    assert sum(found) < 2**63


def test_one_large_product_changes_no_other() -> None:
    """In a batch in which one run overflows, the others cost what they cost alone."""
    line = PriceLine(input_micro_per_1k=10**12)
    book = PriceBook([card(1, 0, line)])
    index = book.line_index(0, key())
    tokens = np.array([0, 1, 10**9, 2], np.int64)
    none = np.zeros(4, np.int64)
    found = book.components(np.full(4, index), Quantities([tokens, none, none, none], [none, none]))
    assert found[1].tolist() == [0, 10**9, 10**18, 2 * 10**9]


def test_one_high_price_changes_no_other() -> None:
    """In a batch in which one price overflows, runs at other prices cost what they cost alone."""
    lines = (PriceLine(input_micro_per_1k=10**12), PriceLine(input_micro_per_1k=3, model="m"))
    book = PriceBook([card(1, 0, *lines)])
    rows = [book.line_index(0, key(model=model)) for model in ("", "m", "")]
    tokens = np.array([10**9, 10**9, 1], np.int64)
    none = np.zeros(3, np.int64)
    found = book.components(np.array(rows), Quantities([tokens, none, none, none], [none, none]))
    assert found[1].tolist() == [10**18, 3 * 10**6, 10**9]


def test_no_runs_cost_nothing() -> None:
    """An empty batch has six rows without columns."""
    none = np.zeros(0, np.int64)
    assert PriceBook().components(none, quantities(0)).shape == (6, 0)


def test_lines_are_remembered_by_all_that_they_are_chosen_by() -> None:
    """Asking twice gives the same row; a run that differs in any of them is looked up anew."""
    lines = (PriceLine(run_micro=1), PriceLine(run_micro=2, model="m"))
    book = PriceBook([card(1, 0, *lines), card(2, 1, PriceLine(run_micro=3, operation="feature"))])
    plain = book.line_index(0, key("agent_run", "p", "x", "f"))
    assert plain == 1
    assert book.line_index(0, key("agent_run", "p", "x", "f")) == 1
    asked = [
        book.line_index(0, key("agent_run", "p", "m", "f")),
        book.line_index(0, key("agent_run", "q", "x", "f")),
        book.line_index(0, key("agent_run", "p", "x", "g")),
        book.line_index(0, key("feature", "p", "x", "f")),
        book.line_index(1, key("feature", "p", "x", "f")),
        book.line_index(1, key("agent_run", "p", "x", "f")),
    ]
    run_micro = book.components(np.array(asked), quantities(len(asked)))[0]
    assert run_micro.tolist() == [2, 1, 1, 1, 3, 0]
    assert asked[-1] == 0


def test_remembered_lines_are_forgotten_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are free text: what is remembered of them is bounded."""
    monkeypatch.setattr(module, "MAX_REMEMBERED_LINES", 3)
    book = PriceBook([card(1, 0, PriceLine(run_micro=1))])
    for i in range(3):
        book.line_index(0, key(model=str(i)))
    book.trim()
    assert book.line_index(0, key(model="3")) == 4
    book.trim()
    assert book.line_index(0, key(model="9")) == 1


def test_forgotten_lines_leave_no_prices_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """After forgetting, as many new lines as there were before have prices of their own."""
    monkeypatch.setattr(module, "MAX_REMEMBERED_LINES", 2)
    lines = (PriceLine(run_micro=1, model="a"), PriceLine(run_micro=2, model="b"))
    book = PriceBook([card(1, 0, *lines)])

    def run_micro(model: str) -> int:
        index = book.line_index(0, key(model=model))
        return int(book.components(np.array([index]), quantities(1))[0, 0])

    assert [run_micro(model) for model in ("a", "x", "y")] == [1, 0, 0]
    book.trim()
    assert [run_micro(model) for model in ("b", "a")] == [2, 1]
