"""When a partition's state is stored, and when old snapshots may go."""

import asyncio
import logging
import time

from .core import PartitionState, take_snapshot
from .journal import JournalError, RecordWriter
from .journal.restore import Restored
from .journal.snapshots import (
    Catalogue,
    StoredSnapshot,
    delete_old,
    read_catalogue,
    write_snapshot,
)
from .kafka import Broker, BrokerUnavailable
from .memory import give_back
from .metrics import MeterMetrics
from .settings import MeterSettings

log = logging.getLogger("meterstream.snapshots")


class Snapshotter:
    """Stores the snapshots of one partition while the partition goes on.

    Only the encoding holds the partition up, and it runs in a thread, so that others go on.
    """

    def __init__(
        self,
        partition: int,
        *,
        settings: MeterSettings,
        broker: Broker,
        records: RecordWriter,
        topic: str,
        metrics: MeterMetrics,
    ) -> None:
        self._partition = partition
        self._settings = settings
        self._broker = broker
        self._records = records
        self._topic = topic
        self._metrics = metrics
        self._catalogue: Catalogue | None = None
        self._journal_bytes = 0
        self._records_since = 0
        self._last = time.monotonic()
        self._storing: asyncio.Task[None] | None = None
        self._may_delete = False

    def begin(self, restored: Restored) -> None:
        """Begin anew with a state that was just restored."""
        self.end()
        self._catalogue = restored.catalogue
        self._journal_bytes, self._records_since = restored.journal_bytes, restored.records
        self._last = time.monotonic()
        self._may_delete = False

    def end(self) -> None:
        """Store nothing more."""
        if self._storing is not None:
            self._storing.cancel()
            self._storing = None

    def wrote(self, size: int) -> None:
        """Note that a record of `size` bytes was acknowledged at its place in the chain."""
        self._journal_bytes += size
        self._records_since += 1
        if self._may_delete and self._storing is None and self._catalogue is not None:
            # A record of ours joined the chain after the snapshot was stored: so we are still
            # the writer, and nobody restores from anything older than what is kept.
            self._may_delete = False
            self._storing = asyncio.create_task(self._delete(self._catalogue))

    def is_due(self) -> bool:
        """Whether a snapshot should be taken now."""
        if self._storing is not None or not self._records_since:
            return False
        return (
            self._journal_bytes >= self._settings.snapshot_bytes
            or time.monotonic() - self._last >= self._settings.snapshot_seconds
        )

    async def take(self, state: PartitionState) -> None:
        """Encode the state, which must not change meanwhile, and store it in the background."""
        begun = time.monotonic()
        snapshot = await asyncio.to_thread(take_snapshot, state)
        self._journal_bytes, self._records_since = 0, 0
        self._last = time.monotonic()
        self._metrics.stage_seconds.labels("snapshot").observe(self._last - begun)
        stored = StoredSnapshot(
            state.generation, state.link.prev, snapshot.manifest, snapshot.segments
        )
        self._storing = asyncio.create_task(self._store(stored))

    async def _store(self, snapshot: StoredSnapshot) -> None:
        try:
            if self._catalogue is None:
                self._catalogue = await asyncio.to_thread(self._read_catalogue)
            size = await write_snapshot(
                self._records,
                self._topic,
                self._partition,
                self._catalogue,
                snapshot,
                self._settings.journal_max_bytes,
            )
        except (JournalError, BrokerUnavailable) as failure:
            log.warning(
                "partition %d: its snapshot was not stored: %s; the next one tries again",
                self._partition,
                failure,
            )
        else:
            label = str(self._partition)
            self._metrics.snapshot_bytes.labels(label).inc(size)
            self._metrics.snapshot_offset.labels(label).set(snapshot.journal_offset)
            self._may_delete = True
            # Nothing that the meter makes at once is larger, and it is not needed any more.
            del snapshot
            await asyncio.to_thread(give_back)
        finally:
            self._storing = None

    async def _delete(self, catalogue: Catalogue) -> None:
        try:
            await delete_old(self._records, self._topic, self._partition, catalogue)
        except JournalError as failure:
            log.warning("partition %d: old snapshots stay for now: %s", self._partition, failure)
            self._catalogue = None
        finally:
            self._storing = None

    def _read_catalogue(self) -> Catalogue:
        consumer = self._broker.consumer()
        try:
            return read_catalogue(consumer, self._topic, self._partition)[0]
        finally:
            consumer.close()
