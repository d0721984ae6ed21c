"""One event on its way from `publish` to the spool, and the number it got there."""

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from .encode import Encoded
from .exceptions import ProducerError
from .spool import Acks
from .spool.record import OVERHEAD

Waker = Callable[[], None]


class DeliveryState(StrEnum):
    """How far an event has come."""

    QUEUED = "queued"
    """In this process's memory."""
    SPOOLED = "spooled"
    """In the spool: it outlives the process, and will be sent."""
    ACKNOWLEDGED = "acknowledged"
    """The broker has it, on all in-sync replicas."""
    REFUSED = "refused"
    """The broker will never take it; it lies in the spool's refused file."""
    NOT_ACCEPTED = "not_accepted"
    """The spool could not be written; it must be published again."""


class Ticket:
    """What the queue holds for one event. `written` releases whoever waits for the spool."""

    __slots__ = (
        "_lock",
        "_pending",
        "accepted_us",
        "acks",
        "error",
        "event_id",
        "event_type",
        "key",
        "seq",
        "size",
        "team_id",
        "value",
        "wake",
    )

    def __init__(self, encoded: Encoded, accepted_us: int, wake: Waker) -> None:
        event = encoded.event
        self.event_id: Final = event.id
        self.event_type: Final = event.type
        self.team_id: Final = event.data.team_id
        self.key: Final = encoded.key
        self.value: bytes | None = encoded.value
        self.size: Final = len(encoded.key) + len(encoded.value) + OVERHEAD
        self.accepted_us: Final = accepted_us
        self.wake: Waker | None = wake
        self.seq: int | None = None
        self.acks: Acks | None = None
        self.error: ProducerError | None = None
        self._lock = threading.Lock()
        self._pending: list[Callable[[ProducerError | None], None]] = []

    def written(self, seq: int, acks: Acks) -> None:
        """Note that the spool holds it under `seq`."""
        with self._lock:
            self.acks = acks
            self.seq = seq
            self.value = None
            pending = self._pending
            self._pending = []
        for watcher in pending:
            acks.watch(seq, watcher)
        self._wake()

    def failed(self, error: ProducerError) -> None:
        """Note that the spool did not take it."""
        with self._lock:
            self.error = error
            self.value = None
            pending = self._pending
            self._pending = []
        for watcher in pending:
            watcher(error)
        self._wake()

    def state(self) -> DeliveryState:
        """Return how far it has come."""
        if self.error is not None:
            return DeliveryState.NOT_ACCEPTED
        if self.seq is None or self.acks is None:
            return DeliveryState.QUEUED
        if self.acks.refusal(self.seq) is not None:
            return DeliveryState.REFUSED
        if self.acks.is_settled(self.seq):
            return DeliveryState.ACKNOWLEDGED
        return DeliveryState.SPOOLED

    def furthest(self, partition: int) -> int | None:
        """Return an offset of its partition that it does not lie behind, once acknowledged."""
        return self.acks.furthest(partition) if self.acks is not None else None

    def watch(self, watcher: Callable[[ProducerError | None], None]) -> None:
        """Have `watcher` called once: with None when acknowledged, else with what became of it."""
        with self._lock:
            if self.error is None and self.seq is None:
                self._pending.append(watcher)
                return
        if self.error is not None:
            watcher(self.error)
        elif self.acks is not None and self.seq is not None:
            self.acks.watch(self.seq, watcher)

    def unwatch(self, watcher: Callable[[ProducerError | None], None]) -> None:
        """Forget `watcher`, if it was not called yet."""
        with self._lock:
            if watcher in self._pending:
                self._pending.remove(watcher)
                return
        if self.acks is not None and self.seq is not None:
            self.acks.unwatch(self.seq, watcher)

    def _wake(self) -> None:
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()
