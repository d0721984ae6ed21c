"""The limit sections of a record: where limits stand, and the levels that were reached."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import Section
from meterstream.schemas.rows import LIMIT_STATE
from meterstream.schemas.times import to_us

from .arrow import decode_rows, encode_columns
from .crossings import Crossing, Decided
from .limit_index import Standings
from .limits import Stand
from .windows import Window

LIMIT_STATE_SCHEMA: Final = arrow_schema(LIMIT_STATE)
CauseOf = Mapping[int, Mapping[str, object]]
"""How crossings name the events behind uses, by the number of the use."""


def encode_limits(
    decided: Decided,
    causes: CauseOf,
    balances: Mapping[str, Any] = MappingProxyType({}),
    notes: Sequence[Mapping[str, object]] = (),
    gone: Mapping[str, Any] = MappingProxyType({}),
) -> dict[Section, bytes]:
    """Return the sections that tell where limits stand; none where nothing changed.

    `balances` are the rows of limits on balances, as columns, `gone` those of limits that are on
    balances no more, and `notes` what is told of accounts.
    """
    sections: dict[Section, bytes] = {}
    standings = [_columns(one) for one in decided.standings if len(one.rows)]
    # Of a limit that goes on in another window the last row is the one that holds.
    if tables := [table for table in (gone, *standings, balances) if table]:
        sections[Section.LIMIT_STATES] = _encode_states(tables)
    if decided.telling is not None:
        sections[Section.LIMITS_TOLD] = decided.telling.encode()
    if decided.crossings or notes:
        rows = [*(_crossing(one, causes) for one in decided.crossings), *notes]
        sections[Section.CROSSINGS] = json.dumps(rows).encode()
    return sections


def _encode_states(tables: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the rows; of one limit and window the last one holds."""
    columns = {
        name: pa.concat_arrays([table[name] for table in tables])
        if len(tables) > 1
        else tables[0][name]
        for name in LIMIT_STATE_SCHEMA.names
    }
    return encode_columns(columns, LIMIT_STATE_SCHEMA)


def _columns(one: Standings) -> dict[str, Any]:
    n, rows = len(one.rows), pa.array(one.rows)
    return {name: column.take(rows) for name, column in one.index.columns().items()} | {
        "window": pa.array([one.window.kind] * n),
        "window_start": _times(np.full(n, one.window.start_us, np.int64)),
        "window_end": _times(np.full(n, one.window.end_us, np.int64)),
        "used": pa.array(one.used),
        "reached_permille": pa.array(one.reached_permille),
        "blocked": pa.array(one.blocked.astype(np.uint8)),
        "removed": pa.array(np.full(n, one.are_removed, np.uint8)),
    }


def _times(values: NDArray[np.int64]) -> Any:
    return pa.array(values).cast(pa.timestamp("us", tz="UTC"))


def _crossing(one: Crossing, causes: CauseOf) -> dict[str, object]:
    data = one.limit.data
    found: dict[str, object] = {
        "kind": one.kind,
        "team_id" if data.organisation_id is None else "organisation_id": one.limit.key[0],
        "limit_id": data.limit_id,
        "limit_version": data.version,
        "subject": data.subject,
        "subject_id": data.subject_id,
        "measure": data.measure,
        "window": data.window,
        "window_start_us": one.window.start_us,
        "window_end_us": one.window.end_us,
        "amount": data.amount,
        "used": one.used,
    }
    if one.kind == "reached":
        found["level_permille"] = one.level_permille
    if one.reason is not None:
        found["reason"] = one.reason
    if one.at is not None:
        found |= causes[one.at]
    return found


def decode_stands(data: bytes | memoryview) -> tuple[Stand, ...]:
    """Return the levels that a LIMIT_STATES section tells; MalformedRecord if it is none.

    Those of limits on balances stand with the accounts.
    """
    return tuple(
        Stand(
            (row["team_id"], row["limit_id"]),
            Window(row["window"], to_us(row["window_start"]), to_us(row["window_end"])),
            row["reached_permille"],
        )
        for row in decode_rows(data, LIMIT_STATE_SCHEMA)
        if row["reached_permille"] and row["window"] != "balance"
    )
