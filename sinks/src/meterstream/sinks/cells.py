"""The cells feed: usage, charges, sessions and the ledger."""

import time
from collections.abc import Callable, Mapping
from uuid import UUID

from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link

from .flush import flush
from .metrics import SinkMetrics
from .positions import CELLS
from .record import JournalRecord, decode
from .start import Start, StartFinder
from .state import Lineage, PartitionState, Watermark
from .store import Store
from .truncation import CELLS_TABLES, remove_rows_after
from .windows import CLOSED_FOREVER, FOREVER_S, Closed, closed_at


class CellsTarget:
    """Takes journal records and flushes them into the usage tables."""

    def __init__(
        self,
        client: Client,
        store: Store,
        finder: StartFinder,
        *,
        grace_us: int,
        metrics: SinkMetrics,
    ) -> None:
        self._client = client
        self._store = store
        self._finder = finder
        self._grace_us = grace_us
        self._metrics = metrics
        self._states: dict[int, PartitionState] = {}

    def assigned(self, partition: int, committed: Link | None) -> Start:
        """Prepare for the records of `partition` and return where they begin."""
        start = self._finder.find(partition, committed)
        if start.cut is not None:
            remove_rows_after(self._client, CELLS, CELLS_TABLES, partition, start.cut)
        watermarks = read_watermarks(self._client, partition, start.link, self._grace_us)
        self._states[partition] = PartitionState(partition, start.link, watermarks)
        return start

    def dropped(self, partitions: list[int]) -> None:
        """Forget `partitions` and what is pending of all: it is read again from the links."""
        for partition in partitions:
            self._states.pop(partition, None)

    def add(self, record: JournalRecord) -> int:
        """Take a valid record to be stored by the next flush; return how many rows it brings."""
        decoded = decode(record)
        self._states[record.partition].add(decoded, self._grace_us)
        return decoded.row_count

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        """Store all that is pending, then `commit` its links."""
        states = [state for state in self._states.values() if state.pending]
        flush(
            states,
            self._store,
            commit,
            grace_us=self._grace_us,
            now_us=time.time_ns() // 1000,
        )
        for state in states:
            newest = max(state.watermarks, key=lambda lineage: lineage.generation)
            closed = state.watermarks[newest].closed
            gauge = self._metrics.closed_until_seconds
            gauge.labels(state.partition, "quarter").set(closed.quarter_s)
            gauge.labels(state.partition, "day").set(closed.day_s)


def read_watermarks(
    client: Client, partition: int, link: Link | None, grace_us: int
) -> dict[Lineage, Watermark]:
    """Return the watermarks of `partition` that are not closed for ever.

    None is beyond what the clock at `link` closes: it may have been closed with a shorter grace
    than now, or by records that are read again. Quarantined minutes hold theirs.
    """
    rows = client.query(
        "SELECT events_topic_id, generation, toUnixTimestamp(quarter_closed_until),"
        " toUnixTimestamp(day_closed_until) FROM watermarks FINAL"
        " WHERE partition = {partition:UInt16}",
        parameters={"partition": partition},
    ).result_rows
    found = {
        Lineage(UUID(str(topic_id)), int(generation)): Watermark(Closed(int(quarter), int(day)))
        for topic_id, generation, quarter, day in rows
    }
    held = client.query(
        "SELECT events_topic_id, generation, toUnixTimestamp(min(window_start))"
        " FROM quarantine FINAL"
        " WHERE target = 'usage_minutes' AND partition = {partition:UInt16} AND late = -1"
        " GROUP BY events_topic_id, generation",
        parameters={"partition": partition},
    ).result_rows
    for topic_id, generation, window_start_s in held:
        lineage = Lineage(UUID(str(topic_id)), int(generation))
        if lineage in found:
            found[lineage].hold(int(window_start_s))
    if link is not None:
        reached = closed_at(link.clock_us, grace_us)
        for lineage, watermark in found.items():
            if lineage.generation == link.generation:
                watermark.closed = watermark.closed.limited_to(reached)
    return {
        lineage: watermark
        for lineage, watermark in found.items()
        if watermark.closed.day_s < FOREVER_S or watermark.held != CLOSED_FOREVER
    }
