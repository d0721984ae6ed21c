"""The meter's service: gives each assigned partition a worker, and takes it back."""

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from faust import App
from faust.types import TP
from mode import Service

from meterstream.schemas import topics as names

from .core import PartitionState, Policy
from .entries import EntryReader
from .journal import JournalWriter, Ledger, RecordWriter
from .journal.genesis import first_generation
from .journal.restore import Topics, restore
from .kafka import Broker, NotAllowed, TopicMissing, TopicsMisset, log_bounds
from .metrics import MeterMetrics
from .ports import Restorer, Shared
from .settings import MeterSettings
from .snapshotter import Snapshotter
from .transport import RecordBatch
from .worker import PartitionWorker

log = logging.getLogger("meterstream.meter")

STAMPED_BY: Final = "message.timestamp.type"
"""The topic setting that says whose clock records carry: their producer's or the broker's."""
LOOP_SILENT_SECONDS: Final = 60.0
"""A loop that did not turn for this long is not healthy."""


def policy_of(settings: MeterSettings, partitions: int) -> Policy:
    """Return the core's rules as the settings have them."""
    return Policy(
        partitions=partitions,
        grace_us=settings.grace_seconds * 1_000_000,
        horizon_us=settings.horizon_hours * 3_600_000_000,
        owners=settings.stage,
    )


def look_up_topics(broker: Broker, settings: MeterSettings) -> tuple[Topics, int]:
    """Return the topics and the number of partitions; raise TopicMissing or TopicsMisset."""
    events = settings.topic(names.EVENTS)
    missing, counts = [], {}
    for name in (names.EVENTS, names.CONTROL, names.CATALOG, names.JOURNAL, names.SNAPSHOTS):
        try:
            counts[name] = broker.partitions(settings.topic(name))
        except TopicMissing:
            missing.append(settings.topic(name))
    if missing:
        raise TopicMissing(
            f"these topics do not exist: {', '.join(missing)}. Create them: `meterstream topics`"
        )
    partitions = counts[names.EVENTS]
    wrong = [
        f"{settings.topic(name)} has {count} partitions"
        for name, count in counts.items()
        if count != (1 if name == names.CATALOG else partitions)
    ]
    if wrong:
        raise TopicsMisset(
            f"{events} has {partitions} partitions, but {', '.join(wrong)}; they must have as many"
            " (the catalog: 1). See `meterstream topics`"
        )
    for name in (names.EVENTS, names.JOURNAL):
        _check_clock(broker, settings.topic(name), names.BY_NAME[name].config()[STAMPED_BY])
    found = Topics(
        events,
        settings.topic(names.CONTROL),
        settings.topic(names.CATALOG),
        settings.topic(names.JOURNAL),
        settings.topic(names.SNAPSHOTS),
        broker.topic_id(events),
        broker.topic_id(settings.topic(names.JOURNAL)),
        broker.topic_id(settings.topic(names.CONTROL)),
        broker.topic_id(settings.topic(names.CATALOG)),
    )
    return found, partitions


def _check_clock(broker: Broker, topic: str, wanted: str) -> None:
    """Refuse a topic whose records carry their producers' times: they would move the clock."""
    try:
        found = broker.setting(topic, STAMPED_BY)
    except NotAllowed as reason:
        log.warning(
            "%s: %s. So its %s cannot be checked; it must be %s (`meterstream topics --check`"
            " with a user that may look)",
            topic,
            reason,
            STAMPED_BY,
            wanted,
        )
        return
    if found != wanted:
        raise TopicsMisset(
            f"{topic}: {STAMPED_BY} is {found}, and must be {wanted}, for windows close by the"
            " broker's clock: `meterstream topics --repair` sets it"
        )


class ConsumerSource:
    """The app's consumer as a partition's worker sees it."""

    def __init__(self, app: App, topic: str) -> None:
        self._app = app
        self._topic = topic

    def _tp(self, partition: int) -> TP:
        return TP(self._topic, partition)

    async def release(self, partition: int, offset: int) -> int | None:
        """Deliver batches from `offset` on; return the seek's number, None if it is not ours."""
        seek: int | None = await self._app.consumer.release(self._tp(partition), offset)
        return seek

    def hold(self, partition: int) -> None:
        """Deliver nothing more."""
        self._app.consumer.hold(self._tp(partition))

    def full(self, partition: int) -> None:
        """Deliver nothing more for now."""
        self._app.consumer.on_buffer_full(self._tp(partition))

    def drained(self, partition: int) -> None:
        """Deliver again."""
        self._app.consumer.on_buffer_drop(self._tp(partition))

    def stable_end(self, partition: int) -> tuple[int, float] | None:
        """Return the last stable offset and the age of that knowledge in seconds."""
        known: tuple[int, float] | None = self._app.consumer.stable_end(self._tp(partition))
        return known

    def done(self, partition: int, position: int) -> None:
        """Note that the journal holds everything below `position`."""
        self._app.consumer.committable[self._tp(partition)] = position


class Meter(Service):
    """Owns the workers of all partitions that the group gave to this process."""

    def __init__(
        self, app: App, settings: MeterSettings, ledger: Ledger | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._ledger = ledger
        self.app = app
        self.settings = settings
        self.metrics = MeterMetrics()
        self.workers: dict[int, PartitionWorker] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._parked: dict[int, PartitionState] = {}
        self._turned = time.monotonic()
        self._was_assigned = False

    async def on_start(self) -> None:
        """Look the topics up and open what all partitions share."""
        self._broker = Broker(self.settings)
        topics, partitions = await asyncio.to_thread(look_up_topics, self._broker, self.settings)
        self._topics, self._policy = topics, policy_of(self.settings, partitions)
        self._records = RecordWriter(self.settings)
        self._snapshot_records = RecordWriter(self.settings)
        self._entries = EntryReader(self._broker, topics.catalog, topics.control)
        self._entries.start(self._failed)
        self._shared = Shared(
            self.settings,
            self._policy,
            ConsumerSource(self.app, topics.events),
            self._entries,
            JournalWriter(self._records, topics.journal),
            Restorer(
                partial(restore, self._broker, topics, self._policy),
                partial(first_generation, self._broker, topics, self._policy, self._ledger),
                self._event_bounds,
            ),
            self.metrics,
        )

    async def on_stop(self) -> None:
        """Stop all workers; what was not acknowledged yet is decided by whoever comes next."""
        await self.revoke(list(self.workers))
        await self._entries.stop()
        await asyncio.to_thread(self._records.close)
        await asyncio.to_thread(self._snapshot_records.close)

    # --- assignments ---

    async def assign(self, partitions: Iterable[int]) -> None:
        """Start a worker for each of these partitions, and for no others."""
        wanted = set(partitions)
        await self.revoke(set(self.workers) | set(self._tasks))
        self._was_assigned = True
        for partition in sorted(wanted):
            worker = self._new_worker(partition, self._parked.pop(partition, None))
            self.workers[partition] = worker
            task = asyncio.create_task(worker.run(), name=f"partition {partition}")
            task.add_done_callback(self._ended)
            self._tasks[partition] = task
        self._parked.clear()  # what others work on now must not be kept
        log.info("partitions assigned: %s", ", ".join(map(str, sorted(wanted))) or "none")

    async def revoke(self, partitions: Iterable[int]) -> None:
        """End the workers of these partitions; whole states are parked for the next assignment."""
        ending = []
        for partition in list(partitions):
            worker = self.workers.pop(partition, None)
            task = self._tasks.pop(partition, None)
            if worker is None or task is None:
                continue
            worker.assignment.active = False
            task.cancel()
            ending.append((partition, worker, task))
        if ending:
            await asyncio.wait([task for _, _, task in ending])
        for partition, worker, _ in ending:
            self.metrics.forget(partition)
            if worker.parked is not None:
                self._parked[partition] = worker.parked

    def deliver(self, batch: RecordBatch) -> None:
        """Hand a batch to its partition's worker; nobody's batch is read again later."""
        worker = self.workers.get(batch.partition)
        if worker is not None:
            worker.offer(batch)

    def _new_worker(self, partition: int, parked: PartitionState | None) -> PartitionWorker:
        snapshotter = Snapshotter(
            partition,
            settings=self.settings,
            broker=self._broker,
            records=self._snapshot_records,
            topic=self._topics.snapshots,
            metrics=self.metrics,
        )
        return PartitionWorker(partition, self._shared, snapshotter, parked)

    def _event_bounds(self, partition: int) -> tuple[int, int]:
        consumer = self._broker.consumer(isolation_level="read_committed")
        try:
            return log_bounds(consumer, self._topics.events, partition)
        finally:
            consumer.close()

    # --- when something is wrong ---

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.critical("%s failed: %s", task.get_name(), failure, exc_info=failure)
            self._failed(failure)

    def _failed(self, failure: BaseException) -> None:
        self.add_future(self.app.crash(failure))

    @Service.task  # type: ignore[untyped-decorator]
    async def _look_after(self) -> None:
        while not self.should_stop:
            self._turned = time.monotonic()
            age = self._entries.catalog_age_seconds()
            self.metrics.catalog_age_seconds.set(-1 if age is None else age)
            for worker in list(self.workers.values()):
                worker.measure()
            dedup_bytes = sum(worker.dedup_bytes for worker in self.workers.values())
            over = dedup_bytes > self.settings.dedup_bytes
            self.metrics.dedup_over_budget.set(over)
            await self.sleep(1.0)

    def unhealthy(self) -> dict[str, Any]:
        """Return what is broken, by name."""
        silent = time.monotonic() - self._turned
        return {"loop": f"silent for {silent:.0f} s"} if silent > LOOP_SILENT_SECONDS else {}

    def unready(self) -> dict[str, Any]:
        """Return what keeps the meter from metering, by name."""
        faults: dict[str, Any] = {}
        if not self._was_assigned:
            faults["group"] = "waiting for partitions"
            return faults
        workers = list(self.workers.values())
        stopped = {str(w.partition): w.stopped_because for w in workers if w.stopped_because}
        if stopped:
            faults["stopped"] = stopped
        restoring = [w.partition for w in workers if not w.is_working and not w.stopped_because]
        if restoring:
            faults["restoring"] = restoring
        age = self._entries.catalog_age_seconds()
        if workers and not restoring and age is None:
            faults["catalog"] = "not read to its end yet"
        elif age is not None and age > self.settings.catalog_max_age_seconds:
            faults["catalog"] = f"last seen complete {age:.0f} s ago: nothing is computed"
        return faults
