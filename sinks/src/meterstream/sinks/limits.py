"""The rows of limits: where they stand, and what was told of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterstream.schemas.journal import MalformedRecord

from .record import Decoded

NO_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""The end of a window that has none: ClickHouse's times reach not much further."""


def states_of(decoded: Decoded) -> pa.Table | None:
    """Return where limits stand: by team or organisation, with times that ClickHouse can hold."""
    table = decoded.limit_states
    if table is None:
        return None
    at = table.schema.get_field_index("window_end")
    ends, no_end = table["window_end"], pa.scalar(NO_END, table.schema.field(at).type)
    ends = pc.if_else(pc.greater(ends, no_end), no_end, ends)
    return _by_owner(table.set_column(at, table.schema.field(at), ends))


def _by_owner(table: pa.Table) -> pa.Table:
    """Return the rows with their owner in the column of teams, or in that of organisations."""
    owners = table["team_id"].cast(pa.string())
    is_organisation = pc.equal(table["subject"].cast(pa.string()), "organisation")
    at = table.schema.get_field_index("team_id")
    teams, organisations = (
        pc.if_else(is_organisation, *values).dictionary_encode()
        for values in (("", owners), (owners, ""))
    )
    return table.set_column(at, "team_id", teams).append_column("organisation_id", organisations)


def thresholds_of(decoded: Decoded) -> pa.Table | None:
    """Return a row for each crossing of a record; MalformedRecord if one is not as it should be."""
    if not decoded.crossings:
        return None
    try:
        rows = [
            _row(one, number, decoded.record.offset, decoded.record.timestamp_us)
            for number, one in enumerate(decoded.crossings)
        ]
        return pa.Table.from_pylist(rows, _SCHEMA)
    except (KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise MalformedRecord(
            f"CROSSINGS of journal offset {decoded.record.offset}: {error}"
        ) from error


def _row(
    one: Mapping[str, Any], number: int, journal_offset: int, told_at_us: int
) -> dict[str, object]:
    cause = one.get("cause") or {}
    organisation_id = one.get("organisation_id", "")
    return {
        "told_at": told_at_us,
        "kind": one["kind"],
        "team_id": "" if organisation_id else one["team_id"],
        "organisation_id": organisation_id,
        "limit_id": one.get("limit_id", ""),
        "limit_version": one.get("limit_version", 0),
        "subject": one.get("subject", "team"),
        "subject_id": one.get("subject_id") or "",
        "measure": one.get("measure", "credits"),
        "window": one.get("window", "balance"),
        "window_start": one.get("window_start_us", 0),
        "level_permille": one.get("level_permille", 0),
        "amount": one.get("amount", one.get("overdraft_micro", 0)),
        "used": one.get("used", 0),
        "balance_micro": one.get("balance_micro", 0),
        "reason": one.get("reason", ""),
        "grant_id": one.get("grant_id", ""),
        "left_micro": one.get("left_micro", 0),
        "expires_at": one.get("expires_at_us", 0),
        "cause_offset": cause.get("offset", -1),
        "cause_team_id": cause.get("team_id", ""),
        "cause_source": cause.get("source", ""),
        "cause_id": cause.get("id", ""),
        "number": number,
        "journal_offset": journal_offset,
    }


_US: Final = pa.timestamp("us", "UTC")
_SCHEMA: Final = pa.schema(
    [
        ("told_at", _US),
        ("kind", pa.string()),
        ("team_id", pa.string()),
        ("organisation_id", pa.string()),
        ("limit_id", pa.string()),
        ("limit_version", pa.int64()),
        ("subject", pa.string()),
        ("subject_id", pa.string()),
        ("measure", pa.string()),
        ("window", pa.string()),
        ("window_start", _US),
        ("level_permille", pa.int64()),
        ("amount", pa.int64()),
        ("used", pa.int64()),
        ("balance_micro", pa.int64()),
        ("reason", pa.string()),
        ("grant_id", pa.string()),
        ("left_micro", pa.int64()),
        ("expires_at", _US),
        ("cause_offset", pa.int64()),
        ("cause_team_id", pa.string()),
        ("cause_source", pa.string()),
        ("cause_id", pa.string()),
        ("number", pa.uint32()),
        ("journal_offset", pa.int64()),
    ]
)
