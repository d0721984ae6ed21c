"""The bounded queue before the spool, and the thread that writes it there, group by group."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from .exceptions import NotAccepted, PublisherClosed, QueueFull, SpoolFailed
from .spool import SpoolLog
from .ticket import Ticket

_LOGGER: Final = logging.getLogger("meterstream.producers")
_GROUP_BYTES: Final = 1 << 20
"""The most that is written to the spool at once."""


class Inbox:
    """Takes tickets from any thread within a deadline; one thread writes them to the log.

    Callers do not write themselves, since a disk may stall for seconds and a caller must not.
    `refusal(bytes)` says why the spool may not take that many more, None if it may, and
    `may_pass(refused)` whether that may change soon; both are asked under the lock.
    `on_written` is called after each group, `on_failed` with the number of events if it failed.
    `queued` and `handled` count the tickets taken, and those written or failed.
    """

    def __init__(
        self,
        log: SpoolLog,
        *,
        max_bytes: int,
        refusal: Callable[[int], NotAccepted | None],
        may_pass: Callable[[NotAccepted], bool],
        on_written: Callable[[], None],
        on_failed: Callable[[SpoolFailed, int], None],
    ) -> None:
        self._log = log
        self._max_bytes = max_bytes
        self._refusal = refusal
        self._may_pass = may_pass
        self._on_written = on_written
        self._on_failed = on_failed
        # A signal handler may close the publisher while its own thread is in here.
        lock = threading.RLock()
        self._filled = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._queue: deque[Ticket] = deque()
        self._bytes = 0
        self._closed = False
        self.queued = 0
        self.handled = 0
        self._thread = threading.Thread(target=self._run, name="meterstream-spool", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Events that are not yet written."""
        return len(self._queue)

    def put(self, ticket: Ticket, deadline: float) -> None:
        """Queue the ticket, waiting for room until `deadline` (time.monotonic); else raise why."""
        with self._filled:
            while (refused := self._refuse(ticket)) is not None:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._may_pass(refused):
                    raise refused
                self._room.wait(remaining)
            self._take(ticket)

    def try_put(self, ticket: Ticket) -> NotAccepted | None:
        """Queue the ticket if there is room now, else return why not."""
        with self._filled:
            refused = self._refuse(ticket)
            if refused is None:
                self._take(ticket)
            return refused

    def made_room(self) -> None:
        """Tell those who wait that the spool has become smaller."""
        with self._filled:
            self._room.notify_all()

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, write what is queued; False if that was not done in time."""
        with self._filled:
            self._closed = True
            self._filled.notify_all()
            self._room.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _refuse(self, ticket: Ticket) -> NotAccepted | None:
        if self._closed:
            return PublisherClosed("the publisher is closed; make a new one to publish")
        if self._bytes + ticket.size > self._max_bytes:
            return QueueFull(
                f"{self._log.directory}: {len(self._queue):,} events ({self._bytes:,} bytes) wait"
                " to be written to the spool, which is all the queue holds: the disk is slower"
                " than the callers (use a faster disk, or raise queue_max_bytes)"
            )
        return self._refusal(self._bytes + ticket.size)

    def _take(self, ticket: Ticket) -> None:
        self._queue.append(ticket)
        self.queued += 1
        self._bytes += ticket.size
        if len(self._queue) == 1:
            self._filled.notify()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            self._write(group)
            with self._filled:
                self.handled += len(group)

    def _next_group(self) -> list[Ticket] | None:
        with self._filled:
            while not self._queue:
                if self._closed:
                    return None
                self._filled.wait()
            group: list[Ticket] = []
            size = 0
            while self._queue and size < _GROUP_BYTES:
                ticket = self._queue.popleft()
                group.append(ticket)
                size += ticket.size
            self._bytes -= size
            self._room.notify_all()
            return group

    def _refuse_group(self, group: list[Ticket], error: SpoolFailed) -> None:
        for ticket in group:
            ticket.failed(error)
        self._on_failed(error, len(group))

    def _write(self, group: list[Ticket]) -> None:
        try:
            first = self._log.append(
                [(ticket.accepted_us, ticket.key, ticket.value or b"") for ticket in group]
            )
        except SpoolFailed as error:
            self._refuse_group(group, error)
            return
        except Exception as error:  # the thread must outlive whatever one group brings
            _LOGGER.exception("writing to the spool failed in a way that was not foreseen")
            self._refuse_group(group, SpoolFailed(f"{self._log.directory}: {error!r}"))
            return
        for index, ticket in enumerate(group):
            ticket.written(first + index, self._log.acks)
        self._on_written()
