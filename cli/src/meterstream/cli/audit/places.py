"""Keys of rows in words, for a person who has to find them."""

from collections.abc import Mapping
from typing import Any

from meterstream.schemas.times import format_rfc3339, from_us

from .columns import DIMENSIONS


def moment(seconds: int) -> str:
    """Return a time in seconds since 1970 as text."""
    return format_rfc3339(from_us(seconds * 1_000_000))


def cell_place(key: Mapping[str, Any]) -> str:
    """Return a cell's key; dimensions that are empty are left out."""
    named = [f"{name}={key[name]}" for name in DIMENSIONS if key[name]]
    late = key.get("late", -1)
    return " ".join(
        [moment(key["window_start"]), *named, *([f"late={late}"] if late != -1 else [])]
    )
