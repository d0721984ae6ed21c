"""The flush: pending records become rows in ClickHouse, in an order that is right at every kill."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

import pyarrow as pa

from meterstream.schemas.journal import Link

from .batch import make_batch
from .closing import Closing
from .positions import CELLS, Position, positions_table
from .state import Lineage, PartitionState
from .store import Refused, Store

Commit = Callable[[Mapping[int, Link]], None]
"""Commits the links by partition: the place from which the next reader goes on."""


def flush(
    partitions: Sequence[PartitionState],
    store: Store,
    commit: Commit,
    *,
    now_us: int,
) -> int:
    """Store what is pending in `partitions` and return the number of rows sent.

    Any step may fail, or the process die in it: the same records come again, from here or from the
    committed links, and every row takes its own place once more. Only after the last step the
    pending records are dropped.
    """
    partitions = [state for state in partitions if state.pending]
    if not partitions:
        return 0
    batch = make_batch([one for state in partitions for one in state.pending], now_us)
    sent = 0

    def insert(target: str, table: pa.Table | None) -> list[Refused]:
        nonlocal sent
        if table is None:
            return []
        sent += table.num_rows
        return store.insert(target, table)

    # 1. A watermark for each new lineage, before its first row: the views take the earliest
    #    watermark for the place where minutes begin to matter.
    insert("watermarks", _first_watermarks(partitions, now_us))

    # 2. All rows that the records themselves bring:
    #    minutes, of each cell its newest row, because coarse rows are computed from them;
    #    late rows of every grain, because once a window is read from coarse rows, its late
    #    minutes are not looked at any more, and no coarse row is computed from them; charges,
    #    sessions, limits and accounts, which no other row needs.
    for refused in insert("usage_minutes", batch.minutes):
        _hold(partitions, refused)
    insert("charges", batch.charges)
    insert("usage_minutes", batch.late_minutes)
    insert("usage_quarters", batch.late_quarters)
    insert("usage_days", batch.late_days)
    insert("sessions", batch.sessions)
    insert("limit_states", batch.limit_states)
    insert("thresholds", batch.thresholds)
    for target, table in batch.credits.items():
        insert(target, table)

    # 3. Coarse rows of the windows that have closed. After all minutes of this flush, which may
    #    be the windows' last; the clock lets none change afterwards. A refused minute (step 2)
    #    keeps its windows open.
    closings = {id(state): list(state.closings()) for state in partitions}
    for state in partitions:
        for closing in closings[id(state)]:
            store.close(closing)

    # 4. The watermarks that moved. After the coarse rows, because from now on views read those.
    moved = [c for state in partitions for c in closings[id(state)] if c.now != c.was]
    insert("watermarks", _watermarks(moved, now_us))

    # 5. The ledger. After everything that it vouches for.
    insert("ledger", batch.ledger)

    # 6. The positions. Last of all rows: they say that everything before is there, also where the
    #    committed links are lost or ahead of a database that was restored.
    links = {state.partition: state.link for state in partitions if state.link is not None}
    insert(
        "positions",
        positions_table(
            [
                Position(CELLS, state.partition, state.link, state.pending[-1].record.version)
                for state in partitions
                if state.link is not None
            ],
            now_us,
        ),
    )

    # 7. The links. Only now may a restart begin after these records.
    commit(links)
    for state in partitions:
        state.stored(closings[id(state)])
    return sent


def _first_watermarks(partitions: Sequence[PartitionState], now_us: int) -> pa.Table | None:
    """Return the watermarks of lineages that have none, at the version 0 that any other beats."""
    return _watermarks(
        [
            Closing(
                lineage.events_topic_id,
                lineage.generation,
                state.partition,
                was=watermark.closed,
                now=watermark.closed,
                clock_us=0,
                journal_position=0,
                version=0,
            )
            for state in partitions
            for lineage, watermark in state.watermarks.items()
            if watermark.is_new
        ],
        now_us,
    )


def _watermarks(closings: Sequence[Closing], now_us: int) -> pa.Table | None:
    if not closings:
        return None
    return pa.Table.from_pylist(
        [
            {
                "events_topic_id": closing.events_topic_id.bytes,
                "generation": closing.generation,
                "partition": closing.partition,
                "clock": closing.clock_us,
                "quarter_closed_until": closing.now.quarter_s,
                "day_closed_until": closing.now.day_s,
                "journal_position": closing.journal_position,
                "updated_at": now_us,
                "version": closing.version,
            }
            for closing in closings
        ],
        _WATERMARK_SCHEMA,
    )


def _hold(partitions: Sequence[PartitionState], refused: Refused) -> None:
    """Keep the windows of a refused minute open."""
    row = refused.row
    lineage = Lineage(UUID(bytes=row["events_topic_id"]), int(row["generation"]))  # type: ignore[arg-type, call-overload]
    for state in partitions:
        if state.partition == row["partition"]:
            state.watermarks[lineage].hold(int(row["window_start"].timestamp()))  # type: ignore[attr-defined]


_WATERMARK_SCHEMA: Final = pa.schema(
    [
        ("events_topic_id", pa.binary(16)),
        ("generation", pa.uint32()),
        ("partition", pa.uint16()),
        ("clock", pa.timestamp("us", "UTC")),
        ("quarter_closed_until", pa.timestamp("s", "UTC")),
        ("day_closed_until", pa.timestamp("s", "UTC")),
        ("journal_position", pa.int64()),
        ("updated_at", pa.timestamp("us", "UTC")),
        ("version", pa.uint64()),
    ]
)
