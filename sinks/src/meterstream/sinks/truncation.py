"""Removes the rows of journal records that the journal has lost."""

import logging
from collections.abc import Sequence
from typing import Final

from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link

from .record import EPOCH_FACTOR

CELLS_TABLES: Final = (
    "usage_minutes",
    "usage_quarters",
    "usage_days",
    "watermarks",
    "charges",
    "sessions",
    "ledger",
)
HISTORY_TABLES: Final = ("runs", "agent_sessions_daily")

log = logging.getLogger(__name__)


def remove_rows_after(
    client: Client, feed: str, tables: Sequence[str], partition: int, cut: Link
) -> None:
    """Remove from `tables` the rows of `partition` that came from journal records after `cut`.

    Earlier generations are older than the cut and stay. The feed's position goes last: until then
    a restart finds the cut once more.
    """
    for table in (*tables, "positions"):
        where = (
            "feed = {feed:String}" if table == "positions" else "generation >= {generation:UInt32}"
        )
        client.command(
            f"DELETE FROM {table} WHERE {where} AND partition = {{partition:UInt16}}"  # noqa: S608
            f" AND bitAnd(version, {EPOCH_FACTOR - 1}) > {{cut:Int64}}",
            parameters={
                "feed": feed,
                "generation": cut.generation,
                "partition": partition,
                "cut": cut.prev,
            },
        )
    log.warning("removed the rows of partition %d after journal offset %d", partition, cut.prev)
