"""The life of one partition: restore, then batch by batch compute, journal, apply."""

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from .backlog import Backlog, EventsDamaged, NotConsecutive
from .core import (
    EventBatch,
    PartitionState,
    Step,
    apply_step,
    begin,
    compute_step,
    idle_step,
)
from .fitting import Waiting, compute_fitting
from .gauges import measure_state, measure_step
from .journal import NotJoined, OutcomeUnknown, RecordTooLarge
from .journal.reader import Interrupted
from .kafka import BrokerUnavailable
from .ports import Shared
from .snapshotter import Snapshotter
from .transport import RecordBatch

log = logging.getLogger("meterstream.meter")

MAX_ENTRIES: Final = 2_000
MAX_BARE_OFFSETS: Final = 1_000_000
"""The most offsets without a record that one step decides: each takes a byte of its verdicts."""
RETRY_SECONDS: Final = 1.0
STABLE_END_SECONDS: Final = 2.0
"""How old the broker's word on the end of the log may be to call a partition caught up."""


class Superseded(Exception):
    """The state is not what the journal says any more, or that cannot be told: restore."""


@dataclass(slots=True)
class Assignment:
    """One time that the group gave us a partition; it ends once, and does not come back."""

    active: bool = True


class PartitionWorker:
    """Works on one partition for as long as one assignment lasts.

    Its task alone touches the state, and after each await it looks whether the assignment still
    lasts. A state is left in `parked` if it is known to be what the journal says.
    """

    def __init__(
        self,
        partition: int,
        shared: Shared,
        snapshotter: Snapshotter,
        parked: PartitionState | None = None,
    ) -> None:
        self.partition = partition
        self.assignment = Assignment()
        self.stopped_because: str | None = None
        self.parked = parked
        self._settings = shared.settings
        self._policy = shared.policy
        self._source = shared.source
        self._entries = shared.entries
        self._writer = shared.writer
        self._restorer = shared.restorer
        self._metrics = shared.metrics
        self._snapshotter = snapshotter
        self._label = str(partition)
        self._state: PartitionState | None = None
        self._next_offset = 0
        self._seek: int | None = None
        self._backlog = Backlog(shared.settings.batch_max_events, shared.settings.batch_max_bytes)
        self._is_full = False
        self._is_lost = False
        self._arrived = asyncio.Event()
        self._last_write = time.monotonic()
        self._step_begun = 0.0
        self.is_working = False

    @property
    def dedup_bytes(self) -> int:
        """Memory that this partition's deduplication ids take."""
        return self._state.dedup_bytes if self._state is not None else 0

    # --- batches come in ---

    def offer(self, batch: RecordBatch) -> None:
        """Take a batch from the transport; one that was read before the last seek is dropped."""
        records = batch.records
        if not self.assignment.active or batch.seek != self._seek:
            return
        try:
            self._backlog.add(records)
        except NotConsecutive as hole:
            log.error(
                "partition %d: %s: reading again from the journal's position", self.partition, hole
            )
            self._source.hold(self.partition)
            self._seek, self._is_lost = None, True
            self._arrived.set()
            return
        if records.out_of_range or records.damage:
            self._source.hold(self.partition)
            self._seek = None
        if not self._is_full and self._backlog.is_full:
            self._is_full = True
            self._source.full(self.partition)
        self._arrived.set()

    # --- the task ---

    async def run(self) -> None:
        """Work until cancelled. Ends by itself only if the partition has to be stopped."""
        try:
            while self.assignment.active:
                try:
                    await self._restore()
                    await self._work()
                except (Superseded, OutcomeUnknown) as reason:
                    log.warning(
                        "partition %d: %s; its state is dropped and restored",
                        self.partition,
                        reason,
                    )
                    self._metrics.restarts.labels(self._label).inc()
                    self._drop_state()
                    await asyncio.sleep(RETRY_SECONDS)
                except BrokerUnavailable as reason:
                    log.warning("partition %d: %s; trying again", self.partition, reason)
                    self._drop_state()
                    await asyncio.sleep(RETRY_SECONDS)
        except (NotJoined, EventsDamaged, RecordTooLarge) as reason:
            self.stopped_because = str(reason)
            self._metrics.stopped_partitions.labels(self._label).set(1)
            log.error("partition %d is stopped: %s", self.partition, reason)
            self._drop_state()
        finally:
            self.assignment.active = False
            self.is_working = False
            self._entries.unregister(self.partition)
            self._snapshotter.end()
            # A state is kept only if nothing that could change or contradict it is under way.
            self.parked, self._state = self._state, None

    async def _restore(self) -> None:
        self.is_working = False
        unwanted = threading.Event()
        parked, self.parked = self.parked, None
        try:
            restored = await asyncio.to_thread(
                self._restorer.restore, self.partition, parked, unwanted.is_set
            )
        except Interrupted:
            raise asyncio.CancelledError from None
        finally:
            unwanted.set()
        state = restored.state
        self._next_offset = restored.next_offset
        if restored.void_records:
            self._metrics.void_records.labels(self._label).inc(restored.void_records)
        if state is None:
            genesis = await asyncio.to_thread(self._restorer.first_generation, self.partition)
            offset, at_us = await self._append(genesis)
            state = begin(self._policy, self.partition, offset, at_us, genesis)
            log.info("partition %d begins generation 1", self.partition)
        self._snapshotter.begin(restored)
        self._metrics.restore_seconds.labels(self._label).set(restored.seconds)
        self._metrics.restored_records.labels(self._label).set(restored.records)
        log.info(
            "partition %d goes on at offset %d (journal %d, %d records read in %.1f s)",
            self.partition,
            state.events_position,
            state.link.prev,
            restored.records,
            restored.seconds,
        )
        self._state = state
        self.measure()

    async def _work(self) -> None:
        state = self._state
        assert state is not None, "a partition is worked on after it was restored"
        self._entries.register(
            self.partition, state.catalog_position, state.control_position, self._arrived.set
        )
        await self._begin_at(state.events_position)
        self.is_working = True
        while self.assignment.active:
            begun = time.monotonic()
            await self._wait_for_work(state)
            self._metrics.stage_seconds.labels("wait").observe(time.monotonic() - begun)
            if self._is_lost:
                await self._begin_at(state.events_position)
                continue
            if self._backlog.is_out_of_range:
                await self._pass_lost_offsets(state)
                continue
            step, events = self._next_step(state)
            if step is not None:
                await self._write(state, step, events)
                del step  # thousands of cells, which need not wait for the next one
                if self._snapshotter.is_due():
                    await self._take_snapshot(state)

    async def _begin_at(self, position: int) -> None:
        self._source.hold(self.partition)
        self._backlog.begin(position)
        self._is_full = self._is_lost = False
        # Batches that are under way carry another seek's number until this one is known.
        self._seek = None
        seek = await self._source.release(self.partition, position)
        if seek is None:
            raise Superseded("the partition was taken away")
        self._seek = seek

    # --- what to do next ---

    async def _wait_for_work(self, state: PartitionState) -> None:
        """Return once there is something to decide, or an idle record is due."""
        linger = self._settings.batch_linger_ms / 1000
        while self.assignment.active:
            self._arrived.clear()
            if self._is_lost:
                return
            due = self._idle_due_in()
            if self._may_compute():
                if self._backlog.batches >= 0.5:
                    return
                wait = self._step_begun + linger - time.monotonic()
                if (self._backlog or self._has_entries(state)) and wait <= 0:
                    return
                if (due <= 0 or state.is_due) and self._is_caught_up(state):
                    return
                pause = wait if self._backlog or self._has_entries(state) else max(due, 0.1)
            else:
                pause = 0.1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), pause)

    def _may_compute(self) -> bool:
        """Whether catalog and control are known: without them prices would be wrong."""
        age = self._entries.catalog_age_seconds()
        return (
            self._entries.is_ready(self.partition)
            and age is not None
            and age <= self._settings.catalog_max_age_seconds
        )

    def _has_entries(self, state: PartitionState) -> bool:
        catalog, _ = self._entries.catalog_since(state.catalog_position, 1)
        control, _ = self._entries.control_since(self.partition, state.control_position, 1)
        return bool(catalog or control)

    def _idle_due_in(self) -> float:
        return self._last_write + self._settings.idle_seconds - time.monotonic()

    def _is_caught_up(self, state: PartitionState) -> bool:
        known = self._source.stable_end(self.partition)
        return (
            not self._backlog
            and known is not None
            and known[1] <= STABLE_END_SECONDS
            and known[0] == state.events_position
        )

    # --- computing ---

    def _next_step(self, state: PartitionState) -> tuple[Step | None, int]:
        """Compute what is waiting; return the step, and how many queued events it took."""
        self._step_begun = time.monotonic()
        batch = self._backlog.take()
        catalog = Waiting(*self._entries.catalog_since(state.catalog_position, MAX_ENTRIES))
        control = Waiting(
            *self._entries.control_since(self.partition, state.control_position, MAX_ENTRIES)
        )
        if batch is None and not catalog.entries and not control.entries:
            if not self._is_caught_up(state):
                return None, 0
            if not state.is_due:
                return (idle_step(state, _now_us()) if self._idle_due_in() <= 0 else None), 0
        step, events = compute_fitting(
            state,
            batch,
            catalog,
            control,
            backlog=self._backlog,
            max_bytes=self._settings.journal_max_bytes,
            now_us=_now_us(),
        )
        self._metrics.stage_seconds.labels("compute").observe(time.monotonic() - self._step_begun)
        return step, events

    async def _pass_lost_offsets(self, state: PartitionState) -> None:
        """Decide offsets that the log no longer has: unread, and never a gap."""
        self._source.hold(self.partition)
        position = state.events_position
        start, end = await asyncio.to_thread(self._restorer.event_bounds, self.partition)
        self._check_assignment()
        if not position < start:
            raise Superseded(
                f"offset {position} is not in the log, which holds {start} to {end}: it was cut or"
                " made again"
            )
        log.error(
            "partition %d: retention removed %d offsets (%d to %d) before they were read: that"
            " usage is lost",
            self.partition,
            start - position,
            position,
            start - 1,
        )
        self._metrics.unread_offsets.labels(self._label).inc(start - position)
        while position < start:
            upto = min(start, position + MAX_BARE_OFFSETS)
            lost = EventBatch(position, upto, (), (), (), log_start=start)
            await self._write(state, compute_step(state, lost, now_us=_now_us()), 0)
            position = upto
        await self._begin_at(position)

    # --- journal, then state ---

    async def _write(self, state: PartitionState, step: Step, events: int) -> None:
        """Make a step durable, then true. The order is the point of it all."""
        # 1. The record, acknowledged by all replicas in sync: from here on it may be decided.
        offset, at_us = await self._append(step)
        # 2. The state follows: only now, and only if this record is the next of the chain.
        begun = time.monotonic()
        apply_step(state, step, offset, at_us)
        self._metrics.stage_seconds.labels("apply").observe(time.monotonic() - begun)
        # 3. What others may rely on: entries can be forgotten, the group's gauge may move.
        self._entries.taken(self.partition, state.catalog_position, state.control_position)
        self._source.done(self.partition, state.events_position)
        if self._is_full and self._backlog.has_room:
            self._is_full = False
            self._source.drained(self.partition)
        # 4. Last, what is only for the eye.
        measure_step(self._metrics, self.partition, step, events)
        self.measure()
        self._snapshotter.wrote(len(step.value))

    async def _append(self, step: Step) -> tuple[int, int]:
        """Write a step's record; return its offset and the broker's time of it.

        While the outcome is open there is no state: if this is cancelled or fails, none is parked.
        """
        state, self._state = self._state, None
        begun = time.monotonic()
        appended = await self._writer.append(self.partition, step.header.pack(), step.value)
        self._check_assignment()
        if appended.offset != self._next_offset:
            raise Superseded(
                f"its record got journal offset {appended.offset}, not {self._next_offset}:"
                " another writer works on this partition"
            )
        self._state = state
        self._next_offset += 1
        self._last_write = time.monotonic()
        self._metrics.stage_seconds.labels("journal").observe(self._last_write - begun)
        return appended.offset, appended.timestamp_us

    async def _take_snapshot(self, state: PartitionState) -> None:
        # The state must not change while a thread reads it, and it must not be parked either.
        self._state = None
        await self._snapshotter.take(state)
        self._check_assignment()
        self._state = state

    def _check_assignment(self) -> None:
        if not self.assignment.active:
            raise asyncio.CancelledError

    def _drop_state(self) -> None:
        self._state = None
        self.is_working = False
        self._seek = None
        self._backlog.begin(0)
        self._source.hold(self.partition)
        self._entries.unregister(self.partition)

    def measure(self) -> None:
        """Bring the gauges up to date, also while nothing is written."""
        if self._state is not None:
            known = self._source.stable_end(self.partition)
            measure_state(self._metrics, self._state, known)


def _now_us() -> int:
    return time.time_ns() // 1000
