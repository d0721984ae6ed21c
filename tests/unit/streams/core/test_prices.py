"""What a run costs: the card in force, the line that fits, and exact arithmetic."""

from datetime import UTC, datetime

import numpy as np
import pytest

from meterstream.schemas.catalog import PriceLine, RateCardPublishedData
from meterstream.streams.core import prices as module
from meterstream.streams.core.prices import Card, PriceBook

HALF = 2**60


def card(version: int = 1, effective_us: int = 0, *lines: PriceLine) -> Card:
    """Return a card of the default name."""
    return Card(f"default@{version}", version, effective_us, lines)


def components(
    line: PriceLine,
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0),
    sizes: tuple[int, int] = (0, 0),
) -> list[int]:
    """Return run, input, output, cached, reasoning and bytes credits of one run."""
    book = PriceBook([card(1, 0, line)])
    index = book.line_index(0, "agent_run", "", "", "")
    found = book.components(
        np.array([index]),
        [np.array([n], np.int64) for n in tokens],
        [np.array([n], np.int64) for n in sizes],
    )
    assert found.shape == (6, 1)
    return [int(row[0]) for row in found]


def test_a_card_is_named_by_name_and_version() -> None:
    """Charges name a card as name@version; its time is in microseconds since 1970."""
    made = Card.of(
        RateCardPublishedData(
            name="default",
            version=7,
            effective_from=datetime(1970, 1, 2, tzinfo=UTC),
            prices=(PriceLine(run_micro=5),),
        )
    )
    assert made == Card("default@7", 7, 86_400_000_000, (PriceLine(run_micro=5),))


def test_the_card_in_force_is_the_latest_that_has_begun() -> None:
    """A card holds from its very microsecond until the next one's; before the first none does."""
    book = PriceBook([card(3, 300), card(1, 100), card(2, 200)])
    assert [one.version for one in book.cards] == [1, 2, 3]
    times = np.array([99, 100, 199, 200, 299, 300, 10**18], np.int64)
    assert book.card_at(times).tolist() == [-1, 0, 0, 1, 1, 2, 2]


def test_of_cards_that_begin_together_the_higher_version_holds() -> None:
    """Equal times do not leave the price to chance."""
    book = PriceBook([card(2, 100), card(1, 100)])
    assert [book.cards[i].version for i in book.card_at(np.array([100])).tolist()] == [2]


def test_without_cards_nothing_is_in_force() -> None:
    """An empty book prices nothing, at no time."""
    book = PriceBook()
    assert book.card_at(np.array([0, 10**18])).tolist() == [-1, -1]
    assert book.line_index(-1, "agent_run", "", "", "") == 0


def line_of(*lines: PriceLine, **run: str) -> int | None:
    """Return the `run_micro` of the line that fits a run, None if none does."""
    plain = {"operation": "agent_run", "provider": "p", "model": "m", "feature_id": "f"}
    found = card(1, 0, *lines).line_for(**plain | run)
    return None if found is None else found.run_micro


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


def test_lines_for_agent_types_never_fit() -> None:
    """The type of an agent is not known here, so such a line must not price anybody's run."""
    assert line_of(PriceLine(run_micro=1, agent_type="a", model="m"), PriceLine(run_micro=2)) == 2
    assert line_of(PriceLine(run_micro=1, agent_type="a")) is None


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
    line = PriceLine.model_construct(
        run_micro=0,
        input_micro_per_1k=price,
        output_micro_per_1k=price,
        cached_micro_per_1k=None,
        reasoning_micro_per_1k=None,
        request_micro_per_mb=0,
        response_micro_per_mb=0,
        operation=None,
        provider=None,
        model=None,
        feature_id=None,
        agent_type=None,
    )
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
    index = book.line_index(0, "agent_run", "", "", "")
    tokens = np.array([0, 1, 10**9, 2], np.int64)
    none = np.zeros(4, np.int64)
    found = book.components(np.full(4, index), [tokens, none, none, none], [none, none])
    assert found[1].tolist() == [0, 10**9, 10**18, 2 * 10**9]


def test_one_high_price_changes_no_other() -> None:
    """In a batch in which one price overflows, runs at other prices cost what they cost alone."""
    lines = (PriceLine(input_micro_per_1k=10**12), PriceLine(input_micro_per_1k=3, model="m"))
    book = PriceBook([card(1, 0, *lines)])
    rows = [book.line_index(0, "agent_run", "", model, "") for model in ("", "m", "")]
    tokens = np.array([10**9, 10**9, 1], np.int64)
    none = np.zeros(3, np.int64)
    found = book.components(np.array(rows), [tokens, none, none, none], [none, none])
    assert found[1].tolist() == [10**18, 3 * 10**6, 10**9]


def test_no_runs_cost_nothing() -> None:
    """An empty batch has six rows without columns."""
    none = np.zeros(0, np.int64)
    assert PriceBook().components(none, [none] * 4, [none] * 2).shape == (6, 0)


def test_lines_are_remembered_by_all_that_they_are_chosen_by() -> None:
    """Asking twice gives the same row; a run that differs in any of them is looked up anew."""
    lines = (PriceLine(run_micro=1), PriceLine(run_micro=2, model="m"))
    book = PriceBook([card(1, 0, *lines), card(2, 1, PriceLine(run_micro=3, operation="feature"))])
    plain = book.line_index(0, "agent_run", "p", "x", "f")
    assert plain == 1
    assert book.line_index(0, "agent_run", "p", "x", "f") == 1
    asked = [
        book.line_index(0, "agent_run", "p", "m", "f"),
        book.line_index(0, "agent_run", "q", "x", "f"),
        book.line_index(0, "agent_run", "p", "x", "g"),
        book.line_index(0, "feature", "p", "x", "f"),
        book.line_index(1, "feature", "p", "x", "f"),
        book.line_index(1, "agent_run", "p", "x", "f"),
    ]
    none = np.zeros(len(asked), np.int64)
    run_micro = book.components(np.array(asked), [none] * 4, [none] * 2)[0]
    assert run_micro.tolist() == [2, 1, 1, 1, 3, 0]
    assert asked[-1] == 0


def test_remembered_lines_are_forgotten_when_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are free text: what is remembered of them is bounded."""
    monkeypatch.setattr(module, "MAX_REMEMBERED_LINES", 3)
    book = PriceBook([card(1, 0, PriceLine(run_micro=1))])
    for i in range(3):
        book.line_index(0, "agent_run", "", str(i), "")
    book.trim()
    assert book.line_index(0, "agent_run", "", "3", "") == 4
    book.trim()
    assert book.line_index(0, "agent_run", "", "9", "") == 1


def test_forgotten_lines_leave_no_prices_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """After forgetting, as many new lines as there were before have prices of their own."""
    monkeypatch.setattr(module, "MAX_REMEMBERED_LINES", 2)
    lines = (PriceLine(run_micro=1, model="a"), PriceLine(run_micro=2, model="b"))
    book = PriceBook([card(1, 0, *lines)])
    none = np.zeros(1, np.int64)

    def run_micro(model: str) -> int:
        index = book.line_index(0, "agent_run", "", model, "")
        return int(book.components(np.array([index]), [none] * 4, [none] * 2)[0, 0])

    assert [run_micro(model) for model in ("a", "x", "y")] == [1, 0, 0]
    book.trim()
    assert [run_micro(model) for model in ("b", "a")] == [2, 1]
