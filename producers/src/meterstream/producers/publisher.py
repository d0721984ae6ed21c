"""The publisher for threads."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import CollectorRegistry

from .delivery import Delivery
from .encode import Event
from .engine import Engine
from .exceptions import NotAccepted
from .problems import ErrorCallback
from .settings import PublisherSettings


class EventPublisher(Protocol):
    """What a service needs of a publisher, so that a test can hand in another one."""

    def publish(self, event: Event | Mapping[str, Any]) -> object:
        """Accept the event, or raise InvalidEvent or NotAccepted."""

    def flush(self, timeout_s: float) -> None:
        """Return when everything accepted is acknowledged, or raise DeliveryTimeout."""

    def close(self, timeout_s: float | None = None) -> int:
        """End; return how many accepted events are not acknowledged."""


class Publisher:
    """Publishes run and session events, from any thread, without blocking or losing them.

    What `publish` returned for is accepted: it stands in the spool on disk, is sent in the order
    of its team, and is kept until all in-sync replicas of the broker have it, over restarts and
    kills of this process. (`durability` says how far: see PublisherSettings.) An event may reach
    the topic more than once, and its id lets the meter count it once.

    Make one a process, after forking, and close it at the end; a publisher that is not closed is
    closed at exit. Without `settings` it takes them from `METERSTREAM_*`. `registry` takes the
    metrics, the default registry if absent; `on_error` is told, in a thread of the SDK's, of
    problems with what was accepted.

    Raises InvalidSettings and SpoolUnusable when it is made. It does not wait for the broker:
    `check` does.
    """

    def __init__(
        self,
        settings: PublisherSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        on_error: ErrorCallback | None = None,
    ) -> None:
        settings = settings or PublisherSettings.from_environment()
        self._engine = Engine(settings, registry, on_error)

    @property
    def settings(self) -> PublisherSettings:
        """The settings it was made with."""
        return self._engine.settings

    def publish(
        self,
        event: Event | Mapping[str, Any],
        *,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> Delivery:
        """Accept one event: a model of meterstream.schemas, or the mapping of a CloudEvent.

        Blocks for `publish_timeout_ms` at most. `on_delivery(delivery)` is called once, when the
        event is acknowledged or refused: see `Delivery.add_callback`.
        Raises InvalidEvent (mend the event) or NotAccepted (publish the same event again).
        """
        engine = self._engine
        deadline = time.monotonic() + engine.settings.publish_timeout_ms / 1000
        encoded = engine.encode(event)
        written = threading.Lock()
        written.acquire()
        ticket = engine.ticket(encoded, written.release)
        try:
            engine.inbox.put(ticket, deadline)
        except NotAccepted as error:
            raise engine.refused(error) from None
        if engine.settings.durability != "queued":
            remaining = max(0.0, deadline - time.monotonic())
            if not written.acquire(timeout=remaining) and ticket.seq is None:
                raise engine.refused(engine.too_slow())
            if isinstance(ticket.error, NotAccepted):
                raise engine.refused(ticket.error)
        engine.accepted(ticket)
        delivery = Delivery(ticket)
        if on_delivery is not None:
            delivery.add_callback(on_delivery)
        return delivery

    def check(self, timeout_s: float = 10.0) -> None:
        """Raise the BrokerProblem that keeps events from being delivered, if there is one.

        For a service's start or its readiness probe: UnknownTopic, AuthenticationFailed,
        NotAuthorised, BrokerUnreachable. Publishing does not need it.
        """
        self._engine.check(timeout_s)

    @property
    def remaining(self) -> int:
        """Accepted events that are not yet acknowledged, those of adopted spools among them."""
        return self._engine.remaining()

    def flush(self, timeout_s: float) -> None:
        """Return when everything accepted so far is acknowledged.

        Raises DeliveryTimeout with the number left and the last problem; they stay in the spool.
        """
        if not self._engine.barrier().wait(timeout_s):
            raise self._engine.not_flushed(timeout_s)

    def close(self, timeout_s: float | None = None) -> int:
        """Take nothing more, wait for acknowledgements, end. Calling it again does nothing.

        Waits `close_timeout_ms` if no time is given. Returns how many events are left in the
        spool; the next publisher with the same spool_dir sends them.
        """
        if timeout_s is None:
            timeout_s = self._engine.settings.close_timeout_ms / 1000
        return self._engine.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
