"""Coarse on-time rows, computed in ClickHouse from the on-time minutes of a closed window."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from clickhouse_connect.driver.client import Client

from meterstream.schemas import rows

from .windows import SECOND_US, Closed


@dataclass(frozen=True, slots=True)
class Closing:
    """How far one partition was closed, and how far it is to be closed now.

    `version` and `clock_us` are of the last record that the flush stores.
    """

    events_topic_id: UUID
    generation: int
    partition: int
    was: Closed
    now: Closed
    clock_us: int
    journal_position: int
    version: int


_KEY: Final = ", ".join(column.name for column in rows.CELL_KEY[1:])
_NAMES: Final = ", ".join(column.name for column in (*rows.CELL_SUMS, *rows.CELL_SKETCHES))
_FOLDED: Final = ", ".join(
    [f"sum(minutes.{column.name})" for column in rows.CELL_SUMS]
    + [f"sumMap(minutes.{column.name})" for column in rows.CELL_SKETCHES]
)

# Partitions of the table follow from a row's identity, so FINAL may look at each by itself.
_CLOSE: Final = (
    "INSERT INTO {target}"  # noqa: S608 - nothing but declared names is put in
    f" (window_start, {_KEY}, {_NAMES}, events_topic_id, generation, partition, late, log_time,"
    " version)"
    f" SELECT {{start}}(minutes.window_start) AS coarse_start, {_KEY}, {_FOLDED},"
    " {{topic:UUID}}, {{generation:UInt32}}, {{partition:UInt16}}, -1,"
    " toDateTime({{log_time:Int64}}, 'UTC'), {{version:UInt64}}"
    " FROM usage_minutes AS minutes FINAL"
    " WHERE minutes.window_start >= toDateTime({{from:Int64}}, 'UTC')"
    " AND minutes.window_start < toDateTime({{until:Int64}}, 'UTC')"
    " AND minutes.late = -1 AND minutes.events_topic_id = {{topic:UUID}}"
    " AND minutes.generation = {{generation:UInt32}}"
    " AND minutes.partition = {{partition:UInt16}}"
    f" GROUP BY coarse_start, {_KEY}"
    " SETTINGS do_not_merge_across_partitions_select_final = 1"
)
_CLOSE_QUARTERS: Final = _CLOSE.format(target="usage_quarters", start="toStartOfFifteenMinutes")
_CLOSE_DAYS: Final = _CLOSE.format(target="usage_days", start="toStartOfDay")


def close_windows(client: Client, closing: Closing) -> None:
    """Write the on-time rows of the quarters and days that `closing` closes."""
    if closing.now.quarter_s > closing.was.quarter_s:
        _run(client, _CLOSE_QUARTERS, closing, closing.was.quarter_s, closing.now.quarter_s)
    if closing.now.day_s > closing.was.day_s:
        _run(client, _CLOSE_DAYS, closing, closing.was.day_s, closing.now.day_s)


def _run(client: Client, sql: str, closing: Closing, from_s: int, until_s: int) -> None:
    client.command(
        sql,
        parameters={
            "topic": str(closing.events_topic_id),
            "generation": closing.generation,
            "partition": closing.partition,
            "log_time": closing.clock_us // SECOND_US,
            "version": closing.version,
            "from": from_s,
            "until": until_s,
        },
    )
