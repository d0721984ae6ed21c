"""The publisher for asyncio."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import CollectorRegistry

from .delivery import AsyncDelivery
from .encode import Event
from .engine import POLL_S, Engine
from .exceptions import NotAccepted, PublisherClosed
from .problems import ErrorCallback
from .settings import PublisherSettings
from .ticket import Ticket


class AsyncEventPublisher(Protocol):
    """What a service needs of an asyncio publisher, so that a test can hand in another one."""

    async def publish(self, event: Event | Mapping[str, Any]) -> object:
        """Accept the event, or raise InvalidEvent or NotAccepted."""

    async def flush(self, timeout_s: float) -> None:
        """Return when everything accepted is acknowledged, or raise DeliveryTimeout."""

    async def close(self, timeout_s: float | None = None) -> int:
        """End; return how many accepted events are not acknowledged."""


class AsyncPublisher:
    """`Publisher` for asyncio: the same promises, errors and settings; the loop is never blocked.

    Use it in one event loop. An event whose `publish` is cancelled may still be delivered.
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

    async def publish(self, event: Event | Mapping[str, Any]) -> AsyncDelivery:
        """Accept one event; as `Publisher.publish`."""
        engine = self._engine
        deadline = time.monotonic() + engine.settings.publish_timeout_ms / 1000
        encoded = engine.encode(event)
        loop = asyncio.get_running_loop()
        written = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(written.set)

        ticket = engine.ticket(encoded, wake)
        await self._put(ticket, deadline)
        if engine.settings.durability != "queued":
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await written.wait()
            except TimeoutError:
                if ticket.seq is None:
                    raise engine.refused(engine.too_slow()) from None
            if isinstance(ticket.error, NotAccepted):
                raise engine.refused(ticket.error)
        engine.accepted(ticket)
        return AsyncDelivery(ticket)

    async def check(self, timeout_s: float = 10.0) -> None:
        """Raise what keeps events from being delivered, if anything: as `Publisher.check`."""
        await asyncio.to_thread(self._engine.check, timeout_s)

    @property
    def remaining(self) -> int:
        """Accepted events that are not yet acknowledged, those of adopted spools among them."""
        return self._engine.remaining()

    async def flush(self, timeout_s: float) -> None:
        """Return when everything accepted so far is acknowledged; as `Publisher.flush`."""
        barrier = self._engine.barrier()
        deadline = time.monotonic() + timeout_s
        while not barrier.passed():
            if time.monotonic() >= deadline:
                raise self._engine.not_flushed(timeout_s)
            await asyncio.sleep(POLL_S)

    async def close(self, timeout_s: float | None = None) -> int:
        """Take nothing more, wait for acknowledgements, end; as `Publisher.close`."""
        if timeout_s is None:
            timeout_s = self._engine.settings.close_timeout_ms / 1000
        return await asyncio.to_thread(self._engine.close, timeout_s)

    async def _put(self, ticket: Ticket, deadline: float) -> None:
        while (refused := self._engine.inbox.try_put(ticket)) is not None:
            if time.monotonic() >= deadline or isinstance(refused, PublisherClosed):
                raise self._engine.refused(refused)
            await asyncio.sleep(POLL_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
