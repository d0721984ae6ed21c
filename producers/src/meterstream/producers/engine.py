"""What both publishers share: the way of an event from the caller to the spool and the broker."""

import atexit
import ctypes
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakSet

from prometheus_client import CollectorRegistry

from .broker import ask_for_topic
from .encode import Encoded, Event, encode
from .exceptions import (
    BrokerProblem,
    DeliveryTimeout,
    InvalidEvent,
    NotAccepted,
    ProducerError,
    PublisherClosed,
    PublisherForked,
    PublishTimeout,
    QueueFull,
    SpoolFailed,
    SpoolFull,
    SpoolTooOld,
)
from .inbox import Inbox
from .metrics import PublisherMetrics
from .problems import ErrorCallback, Problems
from .sender import Sender
from .settings import PublisherSettings
from .spool import SpoolRoot
from .ticket import Ticket, Waker

_LOGGER: Final = logging.getLogger("meterstream.producers")
_THREAD_END_S: Final = 5.0
POLL_S: Final = 0.002
"""How often those who wait for a barrier look."""
_LIVE: Final[WeakSet["Engine"]] = WeakSet()


class Engine:
    """Validates, spools and sends; the two publishers differ only in how they wait."""

    def __init__(
        self,
        settings: PublisherSettings,
        registry: CollectorRegistry | None,
        on_error: ErrorCallback | None,
    ) -> None:
        self.settings: Final = settings
        self.metrics: Final = PublisherMetrics(settings.name, registry)
        self._problems = Problems(settings.name, self.metrics.problem, on_error)
        self._forked = False
        self._closed = False
        self._closing = threading.RLock()  # a signal handler may close as well
        root = SpoolRoot(
            settings.spool_dir,
            max_bytes=settings.spool_max_bytes,
            sync=settings.durability == "synced",
            on_unusable=self._problems.report,
        )
        self._slot = root.claim()
        self.log: Final = self._slot.log
        try:
            self.sender: Final = Sender(
                settings,
                root,
                self._slot,
                self.metrics,
                report=self._problems.report,
                on_freed=self._freed,
            )
        except ProducerError:
            self._slot.close()
            raise
        self.inbox: Final = Inbox(
            self.log,
            max_bytes=settings.queue_max_bytes,
            refusal=self._spool_refusal,
            may_pass=self._may_pass,
            on_written=self._written,
            on_failed=self._not_written,
        )
        self.metrics.queue_depth.set_function(lambda: self.inbox.depth)
        self.metrics.spooled_events.set_function(self._waiting)
        self.metrics.spooled_bytes.set_function(self._spool_bytes)
        self.metrics.spool_age_seconds.set_function(lambda: self.sender.waiting_age_s)
        self.sender.start()
        _LIVE.add(self)
        atexit.register(self._at_exit)

    def encode(self, event: Event | Mapping[str, Any]) -> Encoded:
        """Return the event validated and encoded; a faulty one is counted and raised."""
        try:
            return encode(event, self.settings.source)
        except InvalidEvent as error:
            self.metrics.failed(type(error).__name__)
            raise

    def ticket(self, encoded: Encoded, wake: Waker) -> Ticket:
        """Return a ticket for the inbox; PublisherForked in a child of the maker's process."""
        if self._forked:
            raise self._forked_error()
        return Ticket(encoded, time.time_ns() // 1000, wake)

    def refused(self, error: NotAccepted) -> NotAccepted:
        """Count an event that was not accepted; return the error to raise."""
        self.metrics.failed(type(error).__name__)
        return error

    def accepted(self, ticket: Ticket) -> None:
        """Count an event that was accepted."""
        self.metrics.published(ticket.event_type)

    def too_slow(self) -> PublishTimeout:
        """Return the error for an event that the spool has not taken in time.

        It stays queued: whoever does not publish it again has a good chance that it still counts.
        """
        return PublishTimeout(
            f"{self.log.directory}: not written within {self.settings.publish_timeout_ms} ms; the"
            " event stays queued and is delivered unless this process ends first, and publishing"
            " it again is harmless (the disk or the machine is too slow, or publish_timeout_ms too"
            " short)"
        )

    def check(self, timeout_s: float) -> None:
        """Raise the BrokerProblem that keeps events from being delivered, if there is one."""
        self._check_usable()
        problem = ask_for_topic(self.sender.producer, self.settings, timeout_s)
        if problem is None:
            return
        known = self.sender.last_problem
        # What the client learned when it connected says more than that nobody answered.
        raise known if isinstance(known, BrokerProblem) else problem

    def remaining(self) -> int:
        """Return how many accepted events are not yet acknowledged."""
        return self.inbox.depth + self._waiting()

    def barrier(self) -> "Barrier":
        """Return a barrier behind everything accepted so far."""
        self._check_usable()
        return Barrier(self)

    def not_flushed(self, timeout_s: float) -> DeliveryTimeout:
        """Return the error that says what is left, and why as far as it is known."""
        problem = self.sender.last_problem
        why = f" ({type(problem).__name__}: {problem})" if problem is not None else ""
        return DeliveryTimeout(
            f"{self.remaining():,} events are not acknowledged after {timeout_s} s{why}; they stay"
            f" in {self.log.directory} and are sent as soon as the broker takes them"
        )

    def close(self, timeout_s: float) -> int:
        """Write what is queued, wait for acknowledgements, end. Return how many events are left."""
        with self._closing:
            if self._closed or self._forked:
                return 0
            self._closed = True
            atexit.unregister(self._at_exit)
            barrier = Barrier(self)
            written = self.inbox.close(_THREAD_END_S)
            barrier.wait(timeout_s)
            stopped = self.sender.stop(_THREAD_END_S)
            left = self.remaining()
            size = self._spool_bytes()
            if written and stopped:
                self._slot.close()
            _LIVE.discard(self)
        self.metrics.queue_depth.set_function(lambda: 0)
        self.metrics.spooled_events.set_function(lambda: left)
        self.metrics.spooled_bytes.set_function(lambda: size if left else 0)
        self.metrics.spool_age_seconds.set_function(lambda: 0)
        if left:
            _LOGGER.warning(
                "%s: closed with %d events that are not acknowledged; the next publisher with"
                " spool_dir %s sends them",
                self.settings.name,
                left,
                self.settings.spool_dir,
            )
        return left

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent: its locks, files and client."""
        self._forked = True
        for slot in self.sender.slots:
            slot.abandon()
        # Destroying the client would wait for threads that only the parent has.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.sender.producer))

    def _at_exit(self) -> None:
        if not self._forked:
            self.close(self.settings.close_timeout_ms / 1000)

    def _check_usable(self) -> None:
        if self._forked:
            raise self._forked_error()
        if self._closed:
            raise PublisherClosed("the publisher is closed; make a new one to publish")

    def _forked_error(self) -> PublisherForked:
        return PublisherForked(
            f"publisher {self.settings.name} was made before this process was forked, and its"
            " threads live in the parent: make one after the fork (gunicorn: in post_fork)"
        )

    def _spool_refusal(self, size: int) -> NotAccepted | None:
        """Say why the spool may not take `size` more bytes; None if it may."""
        settings = self.settings
        used = self._spool_bytes()
        if used + size > settings.spool_max_bytes:
            return SpoolFull(
                f"{settings.spool_dir}: {self._waiting():,} events wait, {used:,} bytes of the"
                f" {settings.spool_max_bytes:,} that spool_max_bytes allows{self._why()}"
            )
        age_s = self.sender.waiting_age_s
        if age_s > settings.spool_max_age_s:
            return SpoolTooOld(
                f"{settings.spool_dir}: the oldest of {self._waiting():,} events has waited"
                f" {age_s:,.0f} s, and spool_max_age_s allows {settings.spool_max_age_s:,}"
                f"{self._why()}"
            )
        return None

    def _may_pass(self, refused: NotAccepted) -> bool:
        """Tell whether room may come soon, so that it is worth to wait for it."""
        if isinstance(refused, SpoolFull):
            return self.sender.last_problem is None
        return isinstance(refused, QueueFull)

    def _why(self) -> str:
        problem = self.sender.last_problem
        if problem is None:
            return "; the broker acknowledges more slowly than events are published"
        return f"; the last problem: {type(problem).__name__}: {problem}"

    def _waiting(self) -> int:
        return sum(slot.log.waiting for slot in self.sender.slots)

    def _spool_bytes(self) -> int:
        return sum(slot.log.size_bytes for slot in self.sender.slots)

    def _written(self) -> None:
        self.sender.wake()

    def _freed(self) -> None:
        self.inbox.made_room()

    def _not_written(self, error: SpoolFailed, count: int) -> None:
        if self.settings.durability == "queued":  # else each caller counts its own
            self.metrics.failed(type(error).__name__, count)
        self._problems.report(error)


class Barrier:
    """Passed when everything that was accepted before it is settled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queued = engine.inbox.queued
        self._end: int | None = None

    def passed(self) -> bool:
        """Tell whether all is settled."""
        inbox, log = self._engine.inbox, self._engine.log
        if self._end is None:
            if inbox.handled < self._queued:
                return False
            self._end = log.next_seq
        return log.acks.low >= self._end

    def wait(self, timeout_s: float) -> bool:
        """Wait until all is settled; False if it is not in time."""
        deadline = time.monotonic() + timeout_s
        while not self.passed():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True


def _after_fork_in_child() -> None:
    for engine in list(_LIVE):
        engine.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
