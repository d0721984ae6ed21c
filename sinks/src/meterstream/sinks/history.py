"""The history feed: single runs, as they were published, with what each was charged."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link

from .event_ranges import EventRanges
from .metrics import SinkMetrics
from .positions import HISTORY, Position, positions_table
from .record import Decoded, JournalRecord, decode
from .run_events import Event, read_event
from .run_rows import counted_offsets, make_history
from .start import Start, StartFinder, place_of
from .store import Store
from .truncation import HISTORY_TABLES, remove_rows_after

log = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 32 * 1024 * 1024
"""Bytes of events that are held at once; more are inserted in several chunks."""


class HistoryTarget:
    """Takes journal records, joins each with its range of events, and writes the runs."""

    def __init__(
        self,
        client: Client,
        store: Store,
        finder: StartFinder,
        events: EventRanges,
        metrics: SinkMetrics,
    ) -> None:
        self._client = client
        self._store = store
        self._finder = finder
        self._events = events
        self._metrics = metrics
        self._pending: dict[int, list[Decoded]] = {}
        self._topic_id: UUID | None = None

    def assigned(self, partition: int, committed: Link | None) -> Start:
        """Prepare for the records of `partition` and return where they begin."""
        start = self._finder.find(partition, committed)
        if start.cut is not None:
            remove_rows_after(self._client, HISTORY, HISTORY_TABLES, partition, start.cut)
        self._pending[partition] = []
        return start

    def dropped(self, partitions: list[int]) -> None:
        """Forget `partitions` and what is pending of them."""
        for partition in partitions:
            self._pending.pop(partition, None)

    def add(self, record: JournalRecord) -> int:
        """Take a valid record to be stored by the next flush; return how many runs it brings."""
        decoded = decode(record)
        self._pending[record.partition].append(decoded)
        return len(counted_offsets(decoded))

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        """Store all that is pending, then `commit` its links."""
        pending = {number: records for number, records in self._pending.items() if records}
        if not pending:
            return

        # 1. The runs, read from the events topic in the order of the journal, one generation
        #    after the other: a new one may begin before the end of the old one.
        for generation in _generations(pending):
            self._store_runs(generation)

        # 2. The positions, which say that the runs before them are there.
        positions = [
            Position(HISTORY, number, records[-1].record.link, records[-1].record.version)
            for number, records in pending.items()
        ]
        self._store.insert("positions", positions_table(positions, time.time_ns() // 1000))

        # 3. The links. Only now may a restart begin after these records.
        commit({position.partition: position.link for position in positions})
        for number in pending:
            self._pending[number] = []

    def _store_runs(self, pending: Mapping[int, Sequence[Decoded]]) -> None:
        """Read the events of all records and insert the runs in chunks of a bounded size."""
        waiting = {number: list(records) for number, records in pending.items()}
        found: dict[int, dict[int, Event]] = {number: {} for number in pending}
        chunk = _Chunk(self._store, self._metrics)
        for message in self._events.read(self._ranges(pending)):
            partition, offset = place_of(message)
            self._settle(partition, offset, waiting, found, chunk)
            value = message.value()
            event = read_event(value) if value is not None else None
            if event is not None:
                found[partition][offset] = event
                chunk.bytes += len(value or b"")
        for partition in waiting:
            self._settle(partition, None, waiting, found, chunk)
        chunk.insert()

    def _settle(
        self,
        partition: int,
        offset: int | None,
        waiting: dict[int, list[Decoded]],
        found: dict[int, dict[int, Event]],
        chunk: "_Chunk",
    ) -> None:
        """Make the rows of all records of `partition` that end at or before `offset`."""
        records = waiting[partition]
        while records and (offset is None or records[0].record.header.events_to <= offset):
            decoded = records.pop(0)
            end = decoded.record.header.events_to
            chunk.add(decoded, found[partition])
            found[partition] = {at: one for at, one in found[partition].items() if at >= end}

    def _ranges(self, pending: Mapping[int, Sequence[Decoded]]) -> dict[int, tuple[int, int]]:
        """Return the offsets to read; none of a topic that was deleted and made anew."""
        ranges = {}
        for number, records in pending.items():
            header = records[0].record.header
            if self._topic_id != header.events_topic_id:
                self._topic_id = self._events.topic_id()
            if self._topic_id == header.events_topic_id:
                ranges[number] = (header.events_from, records[-1].record.header.events_to)
        return ranges


class _Chunk:
    """Rows that are inserted together."""

    def __init__(self, store: Store, metrics: SinkMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._runs: list[pa.Table] = []
        self._sessions: list[pa.Table] = []
        self.bytes = 0

    def add(self, decoded: Decoded, events: Mapping[int, Event]) -> None:
        history = make_history(decoded, events)
        if history.damaged:
            log.error(
                "journal partition %d, offset %d: the events at %s are not those that were counted",
                decoded.record.partition,
                decoded.record.offset,
                ", ".join(map(str, history.damaged[:10])),
            )
        if history.missing:
            self._metrics.missing_events.labels(decoded.record.partition).inc(history.missing)
        if history.runs is not None:
            self._runs.append(history.runs)
        if history.agent_sessions is not None:
            self._sessions.append(history.agent_sessions)
        if self.bytes >= MAX_CHUNK_BYTES:
            self.insert()

    def insert(self) -> None:
        if self._runs:
            self._store.insert("runs", pa.concat_tables(self._runs))
        if self._sessions:
            self._store.insert("agent_sessions_daily", pa.concat_tables(self._sessions))
        self._runs, self._sessions, self.bytes = [], [], 0


def _generations(
    pending: Mapping[int, Sequence[Decoded]],
) -> Iterator[dict[int, list[Decoded]]]:
    """Yield the records of each generation, by partition, the older ones first."""
    numbers = sorted({one.record.header.generation for each in pending.values() for one in each})
    for generation in numbers:
        yield {
            partition: own
            for partition, records in pending.items()
            if (own := [one for one in records if one.record.header.generation == generation])
        }
