"""The facade for asyncio: `async with meter.run(...) as run`, `async with meter.session(...)`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Unpack

from prometheus_client import CollectorRegistry

from meterstream.schemas.pricing import Price

from .aio import AsyncEventPublisher
from .delivery import AsyncDelivery
from .estimate import EstimateAbout, Estimates
from .guard import Guard
from .prices import PriceSource
from .problems import ErrorCallback
from .run import Run, RunAbout
from .session import HEARTBEAT_S, Session, SessionAbout


class AsyncMeter:
    """`Meter` for asyncio, on an AsyncPublisher: the same arguments and promises."""

    def __init__(
        self,
        publisher: AsyncEventPublisher,
        *,
        source: str,
        emit_started: bool = False,
        raise_errors: bool = False,
        on_error: ErrorCallback | None = None,
        registry: CollectorRegistry | None = None,
        prices: PriceSource | None = None,
    ) -> None:
        self._publisher: Final = publisher
        self._source: Final = source
        self._emit_started: Final = emit_started
        self._estimates: Final = Estimates(prices)
        self._guard: Final = Guard(registry, on_error, raise_errors=raise_errors)

    def estimate(self, *, at: datetime | None = None, **about: Unpack[EstimateAbout]) -> Price:
        """Return what a run would cost at a moment (now), with each step: nothing is published.

        Raises PricesUnknown where no rate card is known or in effect, and NotPriced where the card
        has no price for such a run. The price is that of the meter, if card, agents and features
        are the same when the run has ended.
        """
        return self._estimates.run(at, about)

    def estimate_session(
        self, *, machine_size: str, seconds: int, agent_id: str = "", at: datetime | None = None
    ) -> Price:
        """Return what a session of so many seconds would cost; as `estimate`."""
        return self._estimates.session(machine_size, seconds, agent_id, at)

    @asynccontextmanager
    async def run(self, **about: Unpack[RunAbout]) -> AsyncIterator[Run]:
        """Time an `async with` block and publish it as a run when it ends; as `Meter.run`."""
        run = Run(about, self._source, self._guard)
        if self._emit_started:
            await self._publish(run.started_event)
        run.begin()
        try:
            yield run
        except BaseException as error:
            run.ended_by(error)
            run.delivery = await self._publish(run.completed_event, may_raise=False)
            raise
        run.delivery = await self._publish(run.completed_event)

    @asynccontextmanager
    async def session(
        self, *, heartbeat_s: float = HEARTBEAT_S, **about: Unpack[SessionAbout]
    ) -> AsyncIterator[Session]:
        """Publish that a session is up while an `async with` block lasts; as `Meter.session`.

        The heartbeats are sent by a task in the same loop.
        """
        session = Session(about, self._source)
        await self._publish(session.started_event)
        beats = asyncio.create_task(self._beat(session, heartbeat_s))
        try:
            yield session
        except BaseException as error:
            beats.cancel()
            session.ended_by(error)
            await self._publish(session.ended_event, may_raise=False)
            raise
        beats.cancel()
        await self._publish(session.ended_event)

    async def _beat(self, session: Session, heartbeat_s: float) -> None:
        while True:
            await asyncio.sleep(heartbeat_s)
            await self._publish(session.heartbeat_event, may_raise=False)

    async def _publish(
        self, make: Callable[[], dict[str, Any]], *, may_raise: bool = True
    ) -> AsyncDelivery | None:
        receipt: object = None
        with self._guard(may_raise=may_raise):
            receipt = await self._publisher.publish(make())
        return receipt if isinstance(receipt, AsyncDelivery) else None
