"""The cells feed: usage, charges, sessions and the ledger."""

import time
from collections.abc import Callable, Mapping
from uuid import UUID

from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link
from meterstream.schemas.journal.header import MAX_GRACE_SECONDS

from .flush import flush
from .metrics import SinkMetrics
from .positions import CELLS
from .record import JournalRecord, decode
from .start import Start, StartFinder
from .state import Lineage, PartitionState, Watermark
from .store import Store
from .truncation import CELLS_TABLES, remove_rows_after
from .windows import CLOSED_FOREVER, FOREVER_S, SECOND_US, Closed, closed_at


class CellsTarget:
    """Takes journal records and flushes them into the usage tables."""

    def __init__(
        self,
        client: Client,
        store: Store,
        finder: StartFinder,
        *,
        metrics: SinkMetrics,
    ) -> None:
        self._client = client
        self._store = store
        self._finder = finder
        self._metrics = metrics
        self._states: dict[int, PartitionState] = {}

    def assigned(self, partition: int, committed: Link | None) -> Start:
        """Prepare for the records of `partition` and return where they begin."""
        start = self._finder.find(partition, committed)
        if start.cut is not None:
            remove_rows_after(self._client, CELLS, CELLS_TABLES, partition, start.cut)
        watermarks = read_watermarks(self._client, partition, start.link)
        self._states[partition] = PartitionState(partition, start.link, watermarks)
        return start

    def dropped(self, partitions: list[int]) -> None:
        """Forget `partitions` and what is pending of all: it is read again from the links."""
        for partition in partitions:
            self._states.pop(partition, None)

    def add(self, record: JournalRecord) -> int:
        """Take a valid record to be stored by the next flush; return how many rows it brings."""
        decoded = decode(record)
        self._states[record.partition].add(decoded)
        return decoded.row_count

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        """Store all that is pending, then `commit` its links."""
        states = [state for state in self._states.values() if state.pending]
        flush(states, self._store, commit, now_us=time.time_ns() // 1000)
        for state in states:
            newest = max(state.watermarks, key=lambda lineage: lineage.generation)
            closed = state.watermarks[newest].closed
            gauge = self._metrics.closed_until_seconds
            gauge.labels(state.partition, "quarter").set(closed.quarter_s)
            gauge.labels(state.partition, "day").set(closed.day_s)


def read_watermarks(client: Client, partition: int, link: Link | None) -> dict[Lineage, Watermark]:
    """Return the watermarks of `partition` that are not closed for ever, for a reader at `link`.

    One that later records have closed goes back to what was closed at `link` with any grace: they
    are read again, and hold minutes before it. Quarantined minutes hold theirs.
    """
    if link is None:
        return {}  # all records are read again
    rows = client.query(
        "SELECT events_topic_id, generation, toUnixTimestamp(quarter_closed_until),"
        " toUnixTimestamp(day_closed_until), journal_position FROM watermarks FINAL"
        " WHERE partition = {partition:UInt16} AND generation <= {generation:UInt32}",
        parameters={"partition": partition, "generation": link.generation},
    ).result_rows
    surely = closed_at(link.clock_us, MAX_GRACE_SECONDS * SECOND_US)
    found = {}
    for topic_id, generation, quarter_s, day_s, position in rows:
        closed = Closed(int(quarter_s), int(day_s))
        if generation == link.generation and position > link.next_offset:
            closed = closed.limited_to(surely)
        found[Lineage(UUID(str(topic_id)), int(generation))] = Watermark(closed)
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
    return {
        lineage: watermark
        for lineage, watermark in found.items()
        if watermark.closed.day_s < FOREVER_S or watermark.held != CLOSED_FOREVER
    }
