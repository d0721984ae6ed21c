"""Inserts into ClickHouse. A row that is refused is found, set aside and counted; others land."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from .client import CLUSTER_SETTINGS, WRITE_SETTINGS, is_row_fault
from .closing import Closing, close_windows
from .errors import RowsRefused
from .metrics import SinkMetrics

MAX_REFUSED_ROWS: Final = 100
"""Of one insert. More than that, and it is the table that is wrong, not the rows."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that ClickHouse did not take, and what it said."""

    target: str
    row: dict[str, object]
    error: str
    row_json: str = ""
    """The row as ClickHouse's JSONEachRow takes it, to insert it once the cause is mended."""


class Store(Protocol):
    """Where a flush puts rows. Every call may be made again: rows are idempotent."""

    def insert(self, target: str, table: pa.Table) -> list[Refused]:
        """Store the rows of `table`; return those that were refused and quarantined."""
        ...

    def close(self, closing: Closing) -> None:
        """Compute the on-time coarse rows of the windows that `closing` closes."""
        ...


class ClickHouseStore:
    """The store that is ClickHouse. It belongs to one thread."""

    def __init__(
        self,
        client: Client,
        now_us: Callable[[], int],
        metrics: SinkMetrics | None = None,
        *,
        on_cluster: bool = False,
    ) -> None:
        self._client = client
        self._now_us = now_us
        self._metrics = metrics or SinkMetrics()
        self._settings = {**WRITE_SETTINGS, **(CLUSTER_SETTINGS if on_cluster else {})}

    def insert(self, target: str, table: pa.Table) -> list[Refused]:
        """Store the rows of `table`; return those that were refused and quarantined.

        Raises the driver's errors if the server is at fault, RowsRefused if it refuses more than
        MAX_REFUSED_ROWS rows.
        """
        refused: list[Refused] = []
        self._insert_part(target, table, refused)
        self._metrics.rows.labels(target).inc(table.num_rows - len(refused))
        if refused:
            self._metrics.quarantined_rows.labels(target).inc(len(refused))
            self._client.insert_arrow(
                "quarantine", _quarantine_table(refused, self._now_us()), settings=self._settings
            )
            for one in refused:
                log.error("%s refused a row, now in quarantine: %s", target, one.error)
        return refused

    def close(self, closing: Closing) -> None:
        """Compute the on-time coarse rows of the windows that `closing` closes."""
        close_windows(self._client, closing)

    def _insert_part(self, target: str, part: pa.Table, refused: list[Refused]) -> None:
        """Insert `part`; where it is refused, halve it until the refused rows are found."""
        try:
            self._client.insert_arrow(target, part, settings=self._settings)
        except DatabaseError as error:
            if not is_row_fault(error):
                raise
            if part.num_rows == 1:
                row = part.to_pylist()[0]
                refused.append(Refused(target, row, str(error), _row_json(row, part.schema)))
                if len(refused) > MAX_REFUSED_ROWS:
                    raise RowsRefused(
                        f"ClickHouse refuses more than {MAX_REFUSED_ROWS} rows of one insert into"
                        f" {target}; look at the table's constraints and columns. It says: {error}"
                    ) from error
                return
            half = part.num_rows // 2
            self._insert_part(target, part.slice(0, half), refused)
            self._insert_part(target, part.slice(half), refused)


def _quarantine_table(refused: list[Refused], now_us: int) -> pa.Table:
    rows = [
        {
            "target": one.target,
            **{name: one.row.get(name, 0) for name in ("generation", "partition", "version")},
            "events_topic_id": one.row.get("events_topic_id", bytes(16)),
            "late": one.row.get("late", -1),
            "window_start": one.row.get("window_start", 0),
            "row_hash": int.from_bytes(
                hashlib.blake2b(one.row_json.encode(), digest_size=8).digest(), "big"
            ),
            "row_json": one.row_json,
            "error": one.error,
            "quarantined_at": now_us,
        }
        for one in refused
    ]
    return pa.Table.from_pylist(rows, _QUARANTINE_SCHEMA)


def _row_json(row: dict[str, Any], schema: pa.Schema) -> str:
    return json.dumps({name: _plain(value, schema.field(name).type) for name, value in row.items()})


def _plain(value: Any, kind: pa.DataType) -> object:
    """Return a value in the form that JSONEachRow reads back."""
    if value is None:
        return None
    if pa.types.is_fixed_size_binary(kind):
        return str(UUID(bytes=value))
    if pa.types.is_timestamp(kind):
        return value.strftime("%Y-%m-%d %H:%M:%S" + (".%f" if kind.unit == "us" else ""))
    if pa.types.is_map(kind):
        return {str(key): item for key, item in value}
    return str(value) if pa.types.is_date(kind) else value


_QUARANTINE_SCHEMA: Final = pa.schema(
    [
        ("target", pa.string()),
        ("events_topic_id", pa.binary(16)),
        ("generation", pa.uint32()),
        ("partition", pa.uint16()),
        ("late", pa.int64()),
        ("window_start", pa.timestamp("s", "UTC")),
        ("row_hash", pa.uint64()),
        ("row_json", pa.string()),
        ("error", pa.string()),
        ("quarantined_at", pa.timestamp("us", "UTC")),
        ("version", pa.uint64()),
    ]
)
