"""A grant says exactly what it grants, and what would never be drawn is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meterstream.cli.entries.grants import new_grant
from meterstream.cli.errors import BadInput

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def fields(**given: Any) -> dict[str, Any]:
    """Return what stands in a grant besides its amount."""
    return {
        "team_id": "acme", "grant_id": "g", "kind": "funded", "priority": 100, "starts_at": None,
        "expires_at": None, "note": None, **given,
    }  # fmt: skip


def test_amounts_are_exact() -> None:
    """Credits become millionths as they are written."""
    assert new_grant("1000.000001", fields()).data.amount_micro == 1_000_000_001


@pytest.mark.parametrize(
    ("amount", "given", "said"),
    [
        ("-5", {}, "without sign"),
        ("1,000", {}, "without sign or separators"),
        ("0", {}, "grants nothing"),
        ("9000000000", {}, "amount_micro: 1000000000000000 or less"),
        ("1", {"expires_at": NOW - DAY}, "--expires lies in the past"),
        ("1", {"starts_at": NOW + 2 * DAY, "expires_at": NOW + DAY}, "before it starts"),
        ("1", {"grant_id": "rollover/x"}, "that the meter makes itself"),
        ("1", {"team_id": ""}, "team_id: 1 or more characters"),
    ],
)
def test_what_cannot_be_granted(amount: str, given: dict[str, Any], said: str) -> None:
    """Negative, nothing, too much, over before it begins, or under a name that is not free."""
    with pytest.raises(BadInput, match=said):
        new_grant(amount, fields(**given))
