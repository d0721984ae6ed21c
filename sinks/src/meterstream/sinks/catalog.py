"""The catalog feed: who and what there is, from the catalog topic into the dimension tables.

The topic is compacted and holds all there is, so this feed needs no chain: each start reads it from
its beginning. An offset would not tell whether the topic was made again since, and every row is
idempotent: of an entry's versions the one that was logged last counts, in whichever topic.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from meterstream.schemas import topics
from meterstream.schemas.journal import Link
from meterstream.schemas.kafka_errors import UNREADABLE
from meterstream.schemas.registry import InvalidEvent, parse_event

from .catalog_rows import SCHEMAS, Row, row_of
from .errors import JournalBroken
from .log_reader import is_passing
from .metrics import SinkMetrics
from .positions import CATALOG, Position, positions_table
from .retry import Stopped, until_done
from .start import place_of
from .store import Store

MAX_ENTRIES: Final = 5_000
"""Entries that one flush stores at most."""
DELAY_S: Final = 0.2
"""How long a flush waits for more entries."""
_OFFSET_BITS: Final = 22

log = logging.getLogger(__name__)


def version_of(log_time_ms: int, offset: int) -> int:
    """Return the version of an entry: later ones have higher ones, also in a topic made anew."""
    return log_time_ms << _OFFSET_BITS | offset & (1 << _OFFSET_BITS) - 1


class CatalogFeed:
    """Reads the catalog topic and keeps the dimension tables. It runs in one thread."""

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topic: str,
        store: Store,
        metrics: SinkMetrics,
    ) -> None:
        self._topic = topic
        self._store = store
        self._metrics = metrics
        self._rows: dict[str, list[Row]] = {}
        self._next = 0
        self._stored = 0
        self._version = 0
        self._since = 0.0
        self._consumer = Consumer(
            {
                **kafka,
                "group.id": "meterstream-sink-catalog",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # Behind a batch whose check fails the client loses its place.
                "check.crcs": False,
                "fetch.wait.max.ms": 50,
                "topic.metadata.refresh.interval.ms": 10_000,
            }
        )

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then store what is pending."""
        try:
            self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
            while not stop.is_set():
                self._take(self._consumer.poll(0.1))
                if self._is_due():
                    self._flush(stop)
            self._flush(stop)
        except Stopped as stopped:
            log.warning("%s; it comes again at the next start", stopped)
        finally:
            self._consumer.close()

    def _take(self, message: Message | None) -> None:
        if message is None:
            return
        error = message.error()
        if error is not None:
            if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
                log.warning("topic %s does not exist: `meterstream topics` creates it", self._topic)
            elif error.name() in UNREADABLE:
                self._pass_over(message, error)
            elif not is_passing(error):
                raise JournalBroken(f"topic {self._topic} cannot be read: {error.str()}")
            return
        _, offset = place_of(message)
        if self._next == self._stored:
            self._since = time.monotonic()
        self._next = offset + 1
        self._version = version_of(message.timestamp()[1], offset)
        self._metrics.records.labels(CATALOG, 0).inc()
        if message.value() is None:
            return  # compaction's mark of a removed key: what was charged keeps its name
        try:
            table, row = row_of(parse_event(message.value(), topics.CATALOG), self._version)
        except InvalidEvent as refusal:
            log.warning("catalog offset %d is left out: %s", offset, refusal)
            self._metrics.refused_entries.inc()
        else:
            self._rows.setdefault(table, []).append(row)

    def _pass_over(self, message: Message, error: KafkaError) -> None:
        """Go on behind an entry that the client cannot read: it gives the same again."""
        offset = max(place_of(message)[1], self._next)
        log.error("%s, offset %d is damaged and left out: %s", self._topic, offset, error.str())
        self._metrics.refused_entries.inc()
        if self._next == self._stored:
            self._since = time.monotonic()
        self._next = offset + 1
        self._consumer.seek(TopicPartition(self._topic, 0, self._next))

    def _is_due(self) -> bool:
        waiting = self._next - self._stored
        return waiting >= MAX_ENTRIES or (waiting > 0 and time.monotonic() - self._since >= DELAY_S)

    def _flush(self, stop: threading.Event) -> None:
        if self._next == self._stored:
            return
        until_done(
            self._store_rows,
            "the flush of the catalog",
            stop,
            lambda error: self._metrics.retries.labels(CATALOG).inc(),
        )
        self._rows.clear()
        self._stored = self._next
        _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), cached=True)
        self._metrics.lag_records.labels(CATALOG, 0).set(max(0, end - self._next))

    def _store_rows(self) -> None:
        # The position goes last: it says that the rows before it are there.
        for table, rows in self._rows.items():
            self._store.insert(table, pa.Table.from_pylist(rows, SCHEMAS[table]))
        link = Link(self._next, self._next - 1, 0, 0, 0)
        position = Position(CATALOG, 0, link, self._version)
        self._store.insert("positions", positions_table([position], time.time_ns() // 1000))
