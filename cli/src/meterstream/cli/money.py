"""Credits as people write them, and as they are counted: exact, in millionths, never floats."""

import re
from typing import Final

MICRO: Final = 1_000_000
DECIMALS: Final = 6

_NUMBER: Final = re.compile(r"(0|[1-9]\d{0,14})(?:\.(\d+))?", re.ASCII)


def parse_credits(text: str) -> int:
    """Return credits such as `1000` or `0.25` in micro-credits.

    Raises ValueError for a sign, separators, an exponent or more than six decimals: what does not
    stand for one exact amount is not guessed.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("credits are a number such as 1000 or 0.25, without sign or separators")
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > DECIMALS:
        raise ValueError("credits have six decimals at most, since they are counted in millionths")
    return int(whole) * MICRO + int(decimals.ljust(DECIMALS, "0") or "0")


def parse_count(text: str) -> int:
    """Return a whole number such as `1000`; ValueError for anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] is not None:
        raise ValueError("a whole number such as 1000 is expected, without sign or separators")
    return int(match[1])


def exact_credits(micro: int) -> str:
    """Return micro-credits in credits, exact and without idle zeros: 1234500000 is 1,234.5."""
    sign, whole, rest = "-" if micro < 0 else "", *divmod(abs(micro), MICRO)
    decimals = f"{rest:06d}".rstrip("0")
    return f"{sign}{whole:,}{'.' if decimals else ''}{decimals}"


def amount_text(amount: int, measure: str) -> str:
    """Return an amount in its measure's unit: credits in whole ones, all else counted."""
    return exact_credits(amount) if measure == "credits" else f"{amount:,}"


def parse_amount(text: str, measure: str) -> int:
    """Return an amount of a measure as it is counted; ValueError where it is none."""
    return parse_credits(text) if measure == "credits" else parse_count(text)


def parse_levels(text: str) -> tuple[int, ...]:
    """Return alert levels such as `50,80,100` (per cent) in thousandths; `none` are none."""
    if text.strip() == "none":
        return ()
    return tuple(parse_level(part.strip().removesuffix("%").strip()) for part in text.split(","))


def parse_level(text: str) -> int:
    """Return one level in per cent, with one decimal at most, in thousandths."""
    match = _NUMBER.fullmatch(text)
    if match is None or len(match[2] or "") > 1:
        raise ValueError("a level is a percentage such as 80, with one decimal at most")
    return int(match[1]) * 10 + int(match[2] or "0")


def level_text(permille: int) -> str:
    """Return a level in per cent: 800 is 80%."""
    whole, tenth = divmod(permille, 10)
    return f"{whole}.{tenth}%" if tenth else f"{whole}%"
