"""Reads the journal and flushes what it brings: the loop that all feeds but the catalog share."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from meterstream.schemas.journal import Kind, Link, MalformedRecord

from .errors import JournalBroken
from .journal_reader import Committed, JournalReader
from .metrics import SinkMetrics
from .record import JournalRecord
from .retry import PASSING, Stopped, until_done
from .stages import TEAMS, Stage
from .start import Start

_POLL_S: Final = 0.05
_RECENT_S: Final = 0.2
"""A record that is younger when it is taken has not waited for anything."""

log = logging.getLogger(__name__)


class Target(Protocol):
    """Where a feed's records go. It keeps them until a flush has stored them."""

    def assigned(self, partition: int, committed: Link | None) -> Start:
        """Prepare for the records of `partition` and return where they begin."""
        ...

    def dropped(self, partitions: list[int]) -> None:
        """Forget `partitions` and what is pending of them."""
        ...

    def add(self, record: JournalRecord) -> int:
        """Take a valid record to be stored by the next flush; return how many rows it brings.

        Raises MalformedRecord, JournalBroken.
        """
        ...

    def flush(self, commit: Callable[[Mapping[int, Link]], None]) -> None:
        """Store all that is pending, then `commit` its links. May be called again if it failed."""
        ...


@dataclass(frozen=True, slots=True)
class JournalSource:
    """What is read: the topic, with which client settings, in which consumer group."""

    kafka: Mapping[str, Any]
    topic: str
    group: str
    stage: Stage = TEAMS


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When a flush is due: after so many rows, so many bytes of journal, or so long.

    The time counts from when the first record was appended to the journal if all that waits was
    taken, else from when the first was taken: a feed that is behind stores much at a time.
    """

    rows: int
    bytes: int
    delay_s: float
    idle_delay_s: float
    """The delay where nothing but the clock has moved."""


@dataclass(slots=True)
class _Pending:
    """What waits for the next flush."""

    rows: int = 0
    bytes: int = 0
    records: int = 0
    since: float = 0.0
    """When the first record was taken, by the monotonic clock."""
    appended: float = 0.0
    """When it was appended to the journal, as far as that is within the delay."""
    is_all_there: bool = False
    """Whether the last record taken was recent: nothing waits in the journal."""
    only_clock: bool = True
    event_times_us: list[int] | None = None


class JournalFeed:
    """One feed: a reader of the journal and the target of its records. It runs in one thread."""

    def __init__(
        self,
        name: str,
        source: JournalSource,
        target: Target,
        policy: FlushPolicy,
        metrics: SinkMetrics,
        closing: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.name = name
        self._target = target
        self._policy = policy
        self._metrics = metrics
        self._pending = _Pending()
        self._stop = threading.Event()
        self._void: dict[int, int] = {}
        self._last_log_time_us: dict[int, int] = {}
        self._closing = closing
        self._reader = JournalReader(
            source.kafka,
            source.topic,
            source.group,
            self._assigned,
            self._revoked,
            source.stage,
        )

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then store what is pending and leave the group.

        Raises JournalBroken where the journal cannot be followed.
        """
        self._stop = stop
        try:
            while not stop.is_set():
                record = self._reader.poll(_POLL_S)
                if record is not None:
                    self._take(record)
                if self._is_due():
                    self._flush()
            if self._pending.records:
                self._flush()
        except Stopped as stopped:
            log.warning("%s; it comes again from the journal at the next start", stopped)
        finally:
            self._pending = _Pending()
            self._reader.close()
            for close in self._closing:
                close()

    def _take(self, record: JournalRecord) -> None:
        header = record.header
        try:
            rows = self._target.add(record)
        except MalformedRecord as error:
            raise JournalBroken(
                f"{self._reader.topic}-{record.partition}, offset {record.offset}: the record is"
                f" valid and cannot be decoded: {error}. The {self.name} feed stops here. If a"
                " newer meter wrote it, update the sink; else keep the topic and report it"
            ) from error
        pending = self._pending
        # By two clocks that may differ: it shortens the delay at most, and never lengthens it.
        age_s = time.time() - record.timestamp_us / 1e6
        pending.is_all_there = age_s < _RECENT_S
        if not pending.records:
            pending.since = time.monotonic()
            pending.appended = pending.since - min(max(age_s, 0.0), self._policy.delay_s)
        pending.records += 1
        pending.rows += rows
        pending.bytes += len(record.value)
        if header.kind is not Kind.IDLE:
            pending.only_clock = False
        if header.events_to > header.events_from:
            pending.event_times_us = pending.event_times_us or []
            pending.event_times_us.append(header.last_event_time_us)
        self._last_log_time_us[record.partition] = record.timestamp_us
        self._metrics.records.labels(self.name, record.partition).inc()

    def _is_due(self) -> bool:
        pending, policy = self._pending, self._policy
        if not pending.records:
            return False
        if pending.rows >= policy.rows or pending.bytes >= policy.bytes:
            return True
        now = time.monotonic()
        if pending.only_clock:
            return now - pending.since >= policy.idle_delay_s
        # Records that waited while the flush before ran have waited enough once all are there.
        since = pending.appended if pending.is_all_there else pending.since
        return now - since >= policy.delay_s

    def _flush(self) -> None:
        began = time.monotonic()
        until_done(
            lambda: self._target.flush(self._reader.commit),
            f"the flush of {self._pending.records} records to {self.name}",
            self._stop,
            lambda error: self._metrics.retries.labels(self.name).inc(),
        )
        self._metrics.flush_seconds.labels(self.name).observe(time.monotonic() - began)
        now_us = time.time_ns() // 1000
        for time_us in self._pending.event_times_us or ():
            if self.name == "cells":
                self._metrics.freshness_seconds.observe(max(0, now_us - time_us) / 1e6)
        self._pending = _Pending()
        self._report()

    def _report(self) -> None:
        for partition in self._reader.partitions:
            lag = self._reader.lag(partition)
            self._metrics.lag_records.labels(self.name, partition).set(lag)
            age_us = time.time_ns() // 1000 - self._last_log_time_us.get(partition, 0)
            is_behind = lag > 0 and partition in self._last_log_time_us
            self._metrics.lag_seconds.labels(self.name, partition).set(
                max(0, age_us) / 1e6 if is_behind else 0
            )
            void = self._reader.void_records(partition)
            self._metrics.void_records.labels(self.name, partition).inc(
                max(0, void - self._void.get(partition, 0))
            )
            self._void[partition] = void

    def _assigned(self, partition: int, committed: Committed) -> Start:
        self._void[partition] = 0
        start = until_done(
            lambda: self._target.assigned(partition, committed()),
            f"finding the start of {self._reader.topic}-{partition}",
            self._stop,
        )
        if start.cut is not None:
            self._metrics.truncations.labels(self.name, partition).inc()
        log.info("%s: %s-%d from offset %d", self.name, self._reader.topic, partition, start.offset)
        return start

    def _revoked(self, partitions: list[int], may_commit: bool) -> None:
        if may_commit and self._pending.records:
            try:
                self._target.flush(self._reader.commit)
                self._pending = _Pending()
            except PASSING as error:
                log.warning("not flushed before a rebalance, the next owner does it: %s", error)
        self._target.dropped(partitions)
