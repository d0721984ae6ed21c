"""Reads the catalog and control topics by position, for the partitions that are worked on.

One thread reads; what it finds is kept on the event loop until every partition that needs it has
taken it into its journal. Nothing is ever committed: positions stand in the journal.
"""

import asyncio
import logging
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .core import Entry
from .kafka import Broker, BrokerUnavailable, log_bounds, read_some, timestamp_us

log = logging.getLogger("meterstream.entries")

CONFIRM_SECONDS: Final = 2.0
"""How often the end of the catalog is asked for."""
MAX_READ: Final = 500


@dataclass(slots=True)
class Log:
    """What was read of one topic partition and is still needed: entries at `base` or later.

    `head` is the position up to which the log is known; `complete_at` the monotonic time at which
    that was last seen to be its end.
    """

    topic: str
    partition: int
    base: int
    head: int
    entries: deque[Entry] = field(default_factory=deque)
    complete_at: float | None = None
    number: int = 0
    """Each reading has its own; what was read under another number is dropped."""

    def since(self, position: int, limit: int) -> tuple[list[Entry], int]:
        """Return up to `limit` entries from `position` on, and the position after them."""
        if not self.entries:
            return [], max(position, self.head)
        offsets = [entry.offset for entry in self.entries]
        first = bisect_left(offsets, position)
        found = list(self.entries)[first : first + limit]
        if first + limit < len(self.entries):
            return found, found[-1].offset + 1
        return found, max(position, self.head)

    def forget_before(self, position: int) -> None:
        """Drop entries that nobody needs any more."""
        while self.entries and self.entries[0].offset < position:
            self.entries.popleft()
        self.base = max(self.base, position)


class EntryReader:
    """Feeds catalog and control entries to the partitions that registered for them."""

    def __init__(self, broker: Broker, catalog_topic: str, control_topic: str) -> None:
        self._broker = broker
        self._control_topic = control_topic
        self._catalog = Log(catalog_topic, 0, 0, 0)
        self._control: dict[int, Log] = {}
        self._positions: dict[int, int] = {}
        self._arrived: dict[int, Callable[[], None]] = {}
        self._commands: deque[tuple[str, int, int, int | None]] = deque()
        self._number = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failure: BaseException | None = None

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Begin to read; `on_failure` is called on the loop if reading ends with an error."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(on_failure,), name="entries", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """End reading."""
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    # --- for the partitions, on the loop ---

    def register(
        self,
        partition: int,
        catalog_position: int,
        control_position: int,
        arrived: Callable[[], None],
    ) -> None:
        """Read for `partition` from these positions on; `arrived` is called when there is news."""
        catalog = self._catalog
        if not self._positions or catalog_position < catalog.base:
            self._begin(catalog, catalog_position)
        self._positions[partition] = catalog_position
        self._arrived[partition] = arrived
        control = Log(self._control_topic, partition, control_position, control_position)
        self._control[partition] = control
        self._begin(control, control_position)

    def unregister(self, partition: int) -> None:
        """Read no longer for `partition`."""
        self._positions.pop(partition, None)
        self._arrived.pop(partition, None)
        if self._control.pop(partition, None) is not None:
            self._commands.append((self._control_topic, partition, 0, None))

    def is_ready(self, partition: int) -> bool:
        """Whether both logs were read to their ends since `partition` registered."""
        control = self._control.get(partition)
        return (
            control is not None
            and control.complete_at is not None
            and self._catalog.complete_at is not None
        )

    def catalog_age_seconds(self) -> float | None:
        """Return how long ago the catalog was last seen complete, None if it never was."""
        at = self._catalog.complete_at
        return None if at is None else time.monotonic() - at

    def catalog_since(self, position: int, limit: int) -> tuple[list[Entry], int]:
        """Return catalog entries from `position` on, and the position after them."""
        return self._catalog.since(position, limit)

    def control_since(self, partition: int, position: int, limit: int) -> tuple[list[Entry], int]:
        """Return control entries of `partition` from `position` on, and the position after them."""
        return self._control[partition].since(position, limit)

    def taken(self, partition: int, catalog_position: int, control_position: int) -> None:
        """Note that the journal holds all entries of `partition` below these positions."""
        self._positions[partition] = catalog_position
        self._catalog.forget_before(min(self._positions.values()))
        self._control[partition].forget_before(control_position)

    def _begin(self, log_: Log, position: int) -> None:
        self._number += 1
        log_.number = self._number
        log_.base = log_.head = position
        log_.entries.clear()
        log_.complete_at = None
        self._commands.append((log_.topic, log_.partition, log_.number, position))

    # --- the thread ---

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        consumer = self._broker.consumer(
            isolation_level="read_committed", fetch_wait_max_ms=100, fetch_error_backoff_ms=200
        )
        try:
            self._read(consumer)
        except BaseException as failure:  # noqa: BLE001 - the loop must hear of whatever it is
            self.failure = failure
            self._post(on_failure, failure)
        finally:
            consumer.close()

    def _read(self, consumer: Consumer) -> None:
        numbers: dict[tuple[str, int], int] = {}
        positions: dict[tuple[str, int], int] = {}
        confirmed = 0.0
        while not self._stopped.is_set():
            self._obey(consumer, numbers, positions)
            news: dict[tuple[str, int], list[Entry]] = {}
            for message in read_some(consumer, MAX_READ, 0.1):
                error, offset = message.error(), message.offset()
                where = (message.topic() or "", message.partition() or 0)
                if where not in numbers:
                    continue
                if error is None:
                    assert offset is not None
                    entry = Entry(offset, timestamp_us(message), message.key(), message.value())
                    news.setdefault(where, []).append(entry)
                    positions[where] = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    positions[where] = max(positions[where], offset or 0)
                    self._tell(where, numbers, news.pop(where, []), positions, complete=True)
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise EntriesLost(
                        f"{where[0]}-{where[1]}: the log no longer holds offset"
                        f" {positions[where]}: was the topic made again? {error.str()}"
                    )
                else:
                    log.warning("%s-%d cannot be read: %s", *where, error.str())
            for where, entries in news.items():
                self._tell(where, numbers, entries, positions)
            if time.monotonic() - confirmed > CONFIRM_SECONDS and numbers:
                confirmed = time.monotonic()
                self._confirm(consumer, numbers, positions)

    def _obey(
        self,
        consumer: Consumer,
        numbers: dict[tuple[str, int], int],
        positions: dict[tuple[str, int], int],
    ) -> None:
        while self._commands:
            topic, partition, number, wanted = self._commands[0]
            where = (topic, partition)
            if numbers.pop(where, None) is not None:
                consumer.incremental_unassign([TopicPartition(*where)])
            if wanted is None:
                self._commands.popleft()
                continue
            try:
                first, _ = log_bounds(consumer, *where)
            except BrokerUnavailable as failure:
                log.warning("%s; trying again", failure)
                return
            self._commands.popleft()
            # Compaction and retention may have taken what lies below: there is nothing to miss.
            position = max(first, wanted)
            consumer.incremental_assign([TopicPartition(*where, position)])
            numbers[where], positions[where] = number, position

    def _confirm(
        self,
        consumer: Consumer,
        numbers: dict[tuple[str, int], int],
        positions: dict[tuple[str, int], int],
    ) -> None:
        where = (self._catalog.topic, 0)
        if where not in numbers:
            return
        try:
            _, end = log_bounds(consumer, *where)
        except (BrokerUnavailable, KafkaException) as failure:
            log.warning("the end of the catalog cannot be read: %s", failure)
            return
        if positions[where] >= end:
            self._tell(where, numbers, [], positions, complete=True)

    def _tell(
        self,
        where: tuple[str, int],
        numbers: dict[tuple[str, int], int],
        entries: list[Entry],
        positions: dict[tuple[str, int], int],
        *,
        complete: bool = False,
    ) -> None:
        at = time.monotonic() if complete else None
        self._post(self._take, where, numbers[where], entries, positions[where], at)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            self._stopped.set()  # the loop is closed

    def _take(
        self,
        where: tuple[str, int],
        number: int,
        entries: list[Entry],
        position: int,
        complete_at: float | None,
    ) -> None:
        topic, partition = where
        is_catalog = topic == self._catalog.topic
        target = self._catalog if is_catalog else self._control.get(partition)
        if target is None or target.number != number:
            return
        was_complete = target.complete_at is not None
        target.entries.extend(entries)
        target.head = max(target.head, position)
        target.complete_at = complete_at or target.complete_at
        if entries or (complete_at and not was_complete):
            for other, arrived in list(self._arrived.items()):
                if is_catalog or other == partition:
                    arrived()


class EntriesLost(Exception):
    """The catalog or control log lost offsets that were not read yet."""
