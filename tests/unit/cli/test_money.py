"""Credits are exact between what people write and what is counted."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.cli.money import (
    exact_credits,
    level_text,
    parse_count,
    parse_credits,
    parse_level,
    parse_levels,
)
from meterstream.schemas.catalog import MAX_POOL_MICRO


@given(st.integers(0, MAX_POOL_MICRO))
def test_credits_come_back(micro: int) -> None:
    """What is shown, without its separators, is read as the same amount, and says it exactly."""
    text = exact_credits(micro).replace(",", "")
    assert parse_credits(text) == micro
    assert Decimal(text) * 1_000_000 == micro


def test_credits_are_shown_without_idle_zeros() -> None:
    """Six decimals where they are needed, none where they are not, and a sign."""
    assert exact_credits(1_234_500_000) == "1,234.5"
    assert exact_credits(-1) == "-0.000001"
    assert exact_credits(0) == "0"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1,000", "1_000", "1e3", ".5", "1.", "01", "0.0000001", "nan", "１", "1 "],
)
def test_what_is_no_amount_of_credits_is_refused(text: str) -> None:
    """Nothing is rounded, and nothing is guessed."""
    with pytest.raises(ValueError, match="credits"):
        parse_credits(text)


@pytest.mark.parametrize("text", ["1.0", "-1", "1,000", "many"])
def test_counts_are_whole(text: str) -> None:
    """Tokens and runs have no decimals."""
    with pytest.raises(ValueError, match="whole number"):
        parse_count(text)


def test_levels_are_thousandths() -> None:
    """Per cent with one decimal become thousandths and come back; `none` are no levels."""
    assert parse_levels("50, 80%,100") == (500, 800, 1000)
    assert parse_levels("none") == ()
    assert [level_text(level) for level in (500, 999, 1)] == ["50%", "99.9%", "0.1%"]
    assert parse_level("99.9") == 999
    with pytest.raises(ValueError, match="percentage"):
        parse_level("0.05")
