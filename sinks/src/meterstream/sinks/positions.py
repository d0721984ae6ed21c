"""Where a feed stands, as ClickHouse has it: the rows up to there are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link

CELLS: Final = "cells"
HISTORY: Final = "history"
CATALOG: Final = "catalog"
ORGANISATIONS: Final = "organisations"


@dataclass(frozen=True, slots=True)
class Position:
    """The link of one feed and partition; `version` is that of the last record stored."""

    feed: str
    partition: int
    link: Link
    version: int


def positions_table(positions: Sequence[Position], now_us: int) -> pa.Table:
    """Return the rows of `positions`."""
    return pa.Table.from_pylist(
        [
            {
                "feed": position.feed,
                "partition": position.partition,
                "next_offset": position.link.next_offset,
                "prev": position.link.prev,
                "generation": position.link.generation,
                "events_position": position.link.events_position,
                "clock": position.link.clock_us,
                "updated_at": now_us,
                "version": position.version,
            }
            for position in positions
        ],
        _SCHEMA,
    )


def read_position(client: Client, feed: str, partition: int) -> Position | None:
    """Return where `feed` stands in `partition`, or None if it has stored nothing there."""
    rows = client.query(
        "SELECT next_offset, prev, generation, events_position, toUnixTimestamp64Micro(clock),"
        " version FROM positions FINAL"
        " WHERE feed = {feed:String} AND partition = {partition:UInt16}",
        parameters={"feed": feed, "partition": partition},
    ).result_rows
    if not rows:
        return None
    *link, version = (int(number) for number in rows[0])
    return Position(feed, partition, Link(*link), version)


_SCHEMA: Final = pa.schema(
    [
        ("feed", pa.string()),
        ("partition", pa.uint16()),
        ("next_offset", pa.int64()),
        ("prev", pa.int64()),
        ("generation", pa.uint32()),
        ("events_position", pa.int64()),
        ("clock", pa.timestamp("us", "UTC")),
        ("updated_at", pa.timestamp("us", "UTC")),
        ("version", pa.uint64()),
    ]
)
