"""A partition's worker when writing goes wrong at each point: nothing is lost, nothing is twice."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.support.craft import (
    CATALOG_TOPIC,
    CONTROL_TOPIC,
    EVENTS_TOPIC,
    JOURNAL_TOPIC,
    NOW,
    SECOND,
    encode,
    run,
)

from meterstream.schemas.journal import Chain, Header, Kind, Section, unpack_sections
from meterstream.schemas.verdicts import ledger_class
from meterstream.streams.core import Entry, PartitionState, Policy, Step, apply_record, genesis_step
from meterstream.streams.journal import Appended, NotJoined, OutcomeUnknown
from meterstream.streams.journal.restore import Restored
from meterstream.streams.metrics import MeterMetrics
from meterstream.streams.ports import Restorer, Shared
from meterstream.streams.settings import MeterSettings
from meterstream.streams.transport import RecordBatch, Records
from meterstream.streams.worker import PartitionWorker

POLICY = Policy(partitions=1)
WAIT_S = 120.0

Fault = Callable[["Journal", bytes, bytes], Awaitable[None]]
"""What happens to one append instead of going well."""


@dataclass
class Journal:
    """A journal of one partition in memory, whose appends can be made to fail."""

    records: list[tuple[Header, bytes, int]] = field(default_factory=list)
    faults: list[Fault | None] = field(default_factory=list)
    """For each append to come; None and no fault let it go well."""
    appends: int = 0

    def put(self, header: bytes, value: bytes) -> Appended:
        """Write a record, as a broker would."""
        at_us = NOW + len(self.records) * 1000
        self.records.append((Header.unpack(header), value, at_us))
        return Appended(len(self.records) - 1, at_us)

    async def append(self, partition: int, header: bytes, value: bytes) -> Appended:
        """Stand in for JournalWriter.append."""
        self.appends += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            await fault(self, header, value)
        return self.put(header, value)

    def restore(
        self, partition: int, parked: PartitionState | None, unwanted: Callable[[], bool]
    ) -> Restored:
        """Stand in for journal.restore."""
        state, chain = parked, Chain(parked.link if parked is not None else None)
        for offset, (header, value, at_us) in enumerate(list(self.records)):
            if chain.take(offset, at_us, header):
                state = apply_record(POLICY, 0, state, offset, at_us, header, value)
        return Restored(state, len(self.records), len(self.records), chain.void_records)

    def decided(self) -> dict[str, int]:
        """Return the offsets by class that the valid records decide."""
        chain, found = Chain(), dict[str, int]()
        for offset, (header, value, at_us) in enumerate(self.records):
            if chain.take(offset, at_us, header):
                for verdict in bytes(unpack_sections(value).get(Section.VERDICTS, b"")):
                    name = ledger_class(verdict)
                    found[name] = found.get(name, 0) + 1
        return found


class NoEntries:
    """Catalog and control topics that are empty, and known to be."""

    age: float | None = 0.0

    def register(self, *_: object) -> None:
        """Take note of nothing."""

    unregister = taken = register

    def is_ready(self, partition: int) -> bool:
        return True

    def catalog_age_seconds(self) -> float | None:
        return self.age

    def catalog_since(self, position: int, limit: int) -> tuple[list[Entry], int]:
        return [], position

    def control_since(self, partition: int, position: int, limit: int) -> tuple[list[Entry], int]:
        return [], position


class NoSnapshots:
    """Takes no snapshots."""

    def begin(self, *_: object) -> None:
        """Do nothing."""

    wrote = end = begin

    def is_due(self) -> bool:
        return False


class Meter:
    """One worker on a log of runs and a journal, both in memory."""

    def __init__(self, count: int, *, batch: int = 10, log_start: int = 0, **settings: Any) -> None:
        self.log = [encode(run(f"e-{n}", NOW)) for n in range(count)]
        self.log_start = log_start
        self.damaged_at: int | None = None
        self.journal = Journal()
        self.source = self
        self.entries = NoEntries()
        self.batch = batch
        self.seek = 0
        self.is_held = True
        self.events: list[str] = []
        self.settings = MeterSettings(
            batch_linger_ms=0, batch_max_events=batch, idle_seconds=3600, **settings
        )
        self.metrics = MeterMetrics()
        self.refusal: str | None = None
        self.first_refusal: str | None = None
        self.worker = self.new_worker()

    def new_worker(self, parked: PartitionState | None = None) -> PartitionWorker:
        shared: Any = Shared(
            self.settings,
            POLICY,
            self,
            self.entries,  # type: ignore[arg-type]
            self.journal,  # type: ignore[arg-type]
            Restorer(
                self._restore,
                self.first_generation,
                lambda partition: (self.log_start, len(self.log)),
            ),
            self.metrics,
        )
        snapshots: Any = NoSnapshots()
        return PartitionWorker(0, shared, snapshots, parked)

    def _restore(
        self, partition: int, parked: PartitionState | None, unwanted: Callable[[], bool]
    ) -> Restored:
        if self.refusal is not None:
            raise NotJoined(self.refusal)
        return self.journal.restore(partition, parked, unwanted)

    def first_generation(self, partition: int) -> Step:
        if self.first_refusal is not None:
            raise NotJoined(self.first_refusal)
        return genesis_step(
            grace_seconds=600,
            generation=1,
            events_topic_id=EVENTS_TOPIC,
            journal_topic_id=JOURNAL_TOPIC,
            control_topic_id=CONTROL_TOPIC,
            catalog_topic_id=CATALOG_TOPIC,
            events_from=0,
        )

    # --- the source ---

    async def release(self, partition: int, offset: int) -> int | None:
        self.seek += 1
        self.is_held = False
        asyncio.get_running_loop().call_soon(self.deliver, offset, self.seek)
        return self.seek

    def deliver(self, offset: int, seek: int) -> None:
        """Hand the log from `offset` on to the worker, as far as it takes it."""
        if offset < self.log_start:
            lost = Records(offset, offset + 1, (), (), (), 0, out_of_range=True)
            self.worker.offer(RecordBatch("events", 0, lost, seek))
            return
        whole = len(self.log) if self.damaged_at is None else self.damaged_at
        for start in range(offset, whole, self.batch):
            end = min(start + self.batch, whole)
            records = Records(
                start,
                end,
                range(start, end),
                [NOW + SECOND] * (end - start),
                self.log[start:end],
                0,
            )
            self.worker.offer(RecordBatch("events", 0, records, seek))
        if self.damaged_at is not None:
            broken = Records(whole, whole + 1, (), (), (), 0, damage="it fails its CRC")
            self.worker.offer(RecordBatch("events", 0, broken, seek))

    def hold(self, partition: int) -> None:
        self.is_held = True

    full = drained = hold

    def stable_end(self, partition: int) -> tuple[int, float] | None:
        return len(self.log), 0.0

    def done(self, partition: int, position: int) -> None:
        self.events.append(f"done {position}")

    # --- running ---

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Run until `condition` holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while not condition():
            assert loop.time() < deadline, what
            await asyncio.sleep(0.005)

    async def run(self, *, until: Callable[[], object] | None = None) -> PartitionWorker:
        """Run the worker until the whole log is decided, or `until`; then revoke it."""
        task = asyncio.create_task(self.worker.run())
        is_done = until or (lambda: sum(self.journal.decided().values()) >= len(self.log))
        await self.until(lambda: is_done() or task.done(), "the log is decided")
        self.worker.assignment.active = False
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return self.worker


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterstream.streams.worker.RETRY_SECONDS", 0.01)


async def _not_written(journal: Journal, header: bytes, value: bytes) -> None:
    raise OutcomeUnknown("timed out, and it was not written")


async def _written(journal: Journal, header: bytes, value: bytes) -> None:
    journal.put(header, value)
    raise OutcomeUnknown("timed out, but it was written")


async def _written_later(journal: Journal, header: bytes, value: bytes) -> None:
    appends = journal.appends

    async def later() -> None:
        while journal.appends < appends + 2:  # the restored worker has written another one
            await asyncio.sleep(0.001)
        journal.put(header, value)

    journal.late = asyncio.create_task(later())  # type: ignore[attr-defined]
    raise OutcomeUnknown("timed out, and it is still under way")


async def _another_writer(journal: Journal, header: bytes, value: bytes) -> None:
    journal.put(header, value)  # the same decision by another: it comes first, and wins


@pytest.mark.parametrize("fault", [_not_written, _written, _written_later, _another_writer])
@pytest.mark.parametrize("at", range(4))
def test_each_append_may_fail(fault: Fault, at: int) -> None:
    """Whatever becomes of an append, each event is counted once and the chain goes on."""
    meter = Meter(50)
    meter.journal.faults = [None] * at + [fault]
    asyncio.run(meter.run())
    assert meter.journal.decided() == {"counted": 50}


def test_a_revoked_worker_parks_its_state() -> None:
    """A state with nothing under way is parked, and the next assignment goes on from it."""
    meter = Meter(30)
    first = asyncio.run(meter.run())
    assert first.parked is not None
    assert first.parked.events_position == 30
    meter.log += [encode(run(f"e-{n}", NOW)) for n in range(20, 50)]
    meter.worker = meter.new_worker(first.parked)
    asyncio.run(meter.run())
    assert meter.journal.decided() == {"counted": 50, "duplicate": 10}


def test_a_state_in_doubt_is_not_parked() -> None:
    """A worker that is revoked while a record is under way leaves no state behind."""
    meter = Meter(30)
    forever = asyncio.Event

    async def never(journal: Journal, header: bytes, value: bytes) -> None:
        meter.events.append("hangs")
        await forever().wait()

    meter.journal.faults = [None, never]
    worker = asyncio.run(meter.run(until=lambda: "hangs" in meter.events))
    assert worker.parked is None
    assert meter.journal.decided() == {}


def test_an_acknowledgement_after_the_assignment() -> None:
    """A record that is acknowledged when the assignment has ended changes no state any more."""
    meter = Meter(10)

    async def ends_meanwhile(journal: Journal, header: bytes, value: bytes) -> None:
        meter.worker.assignment.active = False

    meter.journal.faults = [None, ends_meanwhile]
    worker = asyncio.run(meter.run(until=lambda: meter.journal.appends == 2))
    assert worker.parked is None
    assert meter.events == []
    assert meter.journal.decided() == {"counted": 10}


def test_damaged_events_stop_the_partition_behind_all_that_is_whole() -> None:
    """The partition is stopped with the place and the reason; nothing is passed over."""
    meter = Meter(50)
    meter.damaged_at = 25
    worker = asyncio.run(meter.run())
    assert worker.stopped_because is not None
    assert "offset 25 on cannot be read: it fails its CRC" in worker.stopped_because
    assert meter.journal.decided() == {"counted": 25}
    assert meter.is_held


def test_large_steps_are_halved() -> None:
    """A decision that does not fit a message becomes several, and the count is the same."""
    meter = Meter(3000, batch=3000, journal_max_bytes=64 * 1024)
    asyncio.run(meter.run())
    assert meter.journal.decided() == {"counted": 3000}
    sizes = [len(value) for _, value, _ in meter.journal.records]
    assert max(sizes) <= 64 * 1024
    assert len(sizes) > 3


def test_stale_batches() -> None:
    """Batches that were read before the last seek change nothing."""
    meter = Meter(20)

    async def scenario() -> None:
        task = asyncio.create_task(meter.run())
        await meter.until(lambda: meter.seek, "released")
        stale = Records(0, 20, range(20), [NOW] * 20, [b"{}"] * 20, 40)
        meter.worker.offer(RecordBatch("events", 0, stale, meter.seek - 1))
        await task

    asyncio.run(scenario())
    assert meter.journal.decided() == {"counted": 20}


def test_a_hole_between_batches() -> None:
    """A batch that does not follow the one before makes the worker read again, not skip."""
    meter = Meter(40)

    async def scenario() -> None:
        task = asyncio.create_task(meter.run(until=lambda: meter.seek == 2))
        await meter.until(lambda: sum(meter.journal.decided().values()) == 40, "decided")
        meter.log += meter.log[:20]
        torn = Records(50, 60, range(50, 60), [NOW] * 10, [b"{}"] * 10, 20)
        meter.worker.offer(RecordBatch("events", 0, torn, meter.seek))
        await task

    asyncio.run(scenario())
    meter.worker = meter.new_worker(meter.worker.parked)
    asyncio.run(meter.run())
    assert meter.journal.decided() == {"counted": 40, "duplicate": 20}


def test_offsets_that_retention_took() -> None:
    """Offsets below the log's start are unread, and counting goes on after them."""
    meter = Meter(50, log_start=30)
    asyncio.run(meter.run())
    assert meter.journal.decided() == {"unread": 30, "counted": 20}
    assert meter.metrics.unread_offsets.labels("0")._value.get() == 30


def test_a_state_that_does_not_join() -> None:
    """A partition whose state does not join its logs stops, and says why."""
    meter = Meter(10)
    meter.refusal = "the journal was made again"
    asyncio.run(meter.run())
    assert meter.worker.stopped_because == "the journal was made again"
    assert meter.is_held
    assert meter.journal.records == []


def test_a_first_generation_that_must_not_begin() -> None:
    """Where events were counted before, nothing is written, and the reason is told."""
    meter = Meter(5)
    meter.first_refusal = "ClickHouse has counted"
    asyncio.run(meter.worker.run())
    assert meter.worker.stopped_because == "ClickHouse has counted"
    assert (meter.journal.records, meter.worker.parked) == ([], None)


def test_an_old_catalog() -> None:
    """Nothing is decided while the catalog was last seen complete too long ago."""
    meter = Meter(10)
    meter.entries.age = meter.settings.catalog_max_age_seconds + 1

    async def scenario() -> None:
        task = asyncio.create_task(meter.run())
        await meter.until(lambda: meter.worker.is_working, "working")
        assert meter.journal.appends == 1, "no more than the genesis"
        meter.entries.age = 0.0
        await task

    asyncio.run(scenario())
    assert meter.journal.decided() == {"counted": 10}


def test_idle_records() -> None:
    """A caught-up partition writes idle records, and none while events wait."""
    meter = Meter(20)
    object.__setattr__(meter.settings, "idle_seconds", 0.01)
    asyncio.run(meter.run(until=lambda: len(meter.journal.records) >= 5))
    kinds = [header.kind for header, _, _ in meter.journal.records]
    assert kinds[-1] is Kind.IDLE
    assert meter.journal.decided() == {"counted": 20}


def test_metrics_stay_out_of_the_global_registry() -> None:
    """Two meters in one process do not share their metrics."""
    assert MeterMetrics().registry is not REGISTRY
    assert MeterMetrics().registry is not MeterMetrics().registry
