"""Catalog entries as rows of the dimension tables."""

import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from meterstream.schemas import catalog
from meterstream.schemas.envelope import Envelope

Row = dict[str, Any]

_TIME: Final = pa.timestamp("us", "UTC")
_NUMBERS: Final = pa.map_(pa.string(), pa.int64())

_SESSION_PRICES: Final = (
    "session_micro_per_second",
    "session_amount_micro_per_second",
    "session_cost_micro_per_second",
)


def _table(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([*columns, ("updated_at", _TIME), ("version", pa.uint64())])


SCHEMAS: Final = {
    "organisations": _table(
        ("organisation_id", pa.string()),
        ("name", pa.string()),
        ("parent_id", pa.string()),
        ("zone", pa.string()),
    ),
    "teams": _table(
        ("team_id", pa.string()),
        ("organisation_id", pa.string()),
        ("name", pa.string()),
        ("zone", pa.string()),
    ),
    "users": _table(
        ("user_id", pa.string()), ("email", pa.string()), ("display_name", pa.string())
    ),
    "memberships": _table(
        ("user_id", pa.string()),
        ("team_id", pa.string()),
        ("organisation_id", pa.string()),
        ("role", pa.string()),
        ("valid_from", _TIME),
        ("valid_until", _TIME),
    ),
    "agents": _table(
        ("agent_id", pa.string()),
        ("name", pa.string()),
        ("agent_type", pa.string()),
        ("created_by", pa.string()),
        ("created_at", _TIME),
        ("team_id", pa.string()),
    ),
    "projects": _table(
        ("project_id", pa.string()), ("team_id", pa.string()), ("name", pa.string())
    ),
    "features": _table(("feature_id", pa.string()), ("name", pa.string()), ("premium", pa.bool_())),
    "plans": _table(
        ("plan_id", pa.string()),
        ("plan_version", pa.uint32()),
        ("name", pa.string()),
        ("tier", pa.string()),
        ("allowance_credits_micro", pa.int64()),
        ("rollover_cap_micro", pa.int64()),
        ("rollover_expiry_days", pa.int32()),
        ("retention_days", pa.int32()),
        ("features", pa.list_(pa.string())),
        ("overdraft_micro", pa.int64()),
    ),
    "rate_cards": _table(
        ("name", pa.string()),
        ("card_version", pa.uint32()),
        ("currency", pa.string()),
        ("effective_from", _TIME),
        ("prices", pa.string()),
        *((name, _NUMBERS) for name in _SESSION_PRICES),
        ("agent_type_multiplier_permille", _NUMBERS),
        ("premium_multiplier_permille", pa.int64()),
    ),
}
"""The columns of each dimension table."""

_TABLES: Final = {
    catalog.ORGANISATION_REGISTERED: "organisations",
    catalog.TEAM_REGISTERED: "teams",
    catalog.USER_REGISTERED: "users",
    catalog.MEMBERSHIP_CHANGED: "memberships",
    catalog.AGENT_REGISTERED: "agents",
    catalog.PROJECT_REGISTERED: "projects",
    catalog.FEATURE_REGISTERED: "features",
    catalog.PLAN_PUBLISHED: "plans",
    catalog.RATE_CARD_PUBLISHED: "rate_cards",
}
"""The table of each event type."""

# What is absent is an empty text, but for these, where null has a meaning of its own.
_NULLABLE: Final = frozenset({"valid_until", "rollover_expiry_days"})


def _plan(row: Row) -> Row:
    return {**row, "plan_version": row.pop("version")}


def _told(prices: Row) -> Row:
    """Return a price line without what it does not name."""
    return {
        name: _told(value) if isinstance(value, dict) else value
        for name, value in prices.items()
        if value is not None
    }


def _rate_card(row: Row) -> Row:
    prices = [_told(line) for line in row["prices"]]
    return {
        **row,
        "card_version": row.pop("version"),
        "prices": json.dumps(prices, sort_keys=True),
        **{name: list(row[name].items()) for name in _SESSION_PRICES},
        "agent_type_multiplier_permille": list(row["agent_type_multiplier_permille"].items()),
    }


_SHAPES: Final[dict[str, Callable[[Row], Row]]] = {"plans": _plan, "rate_cards": _rate_card}


def row_of(event: Envelope, version: int) -> tuple[str, Row]:
    """Return the table of a catalog event, and its row there."""
    table = _TABLES[event.type]  # type: ignore[attr-defined]
    row: Row = event.data.model_dump()  # type: ignore[attr-defined]
    row = _SHAPES[table](row) if table in _SHAPES else row
    filled = {
        name: "" if value is None and name not in _NULLABLE else value
        for name, value in row.items()
    }
    return table, {**filled, "updated_at": event.time, "version": version}
