"""The facade for services: `with meter.run(...) as run`, `with meter.session(...)`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Unpack

from prometheus_client import CollectorRegistry

from meterstream.schemas.pricing import Price

from .delivery import Delivery
from .estimate import EstimateAbout, Estimates
from .guard import Guard
from .heartbeats import Heartbeats
from .prices import PriceSource
from .problems import ErrorCallback
from .publisher import EventPublisher
from .run import Run, RunAbout
from .session import HEARTBEAT_S, Session, SessionAbout


class Meter:
    """Measures runs and sessions, and publishes them.

    Metering never breaks a request: whatever goes wrong in recording or publishing is counted
    (`meterstream_producer_metering_errors_total`), logged once per kind and handed to `on_error`,
    and not raised inside the block, unless `raise_errors` is set, for development and tests.
    Exceptions of the block itself always go on to the caller.

    `source` is the CloudEvents source of all events, such as `/services/chat`; `emit_started`
    publishes a `run.started` for each run as well. `prices` is what `estimate` answers from:
    `Prices` that are at hand, or a `PriceFollower`. One meter serves all threads.
    """

    def __init__(
        self,
        publisher: EventPublisher,
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
        self._heartbeats: Final = Heartbeats()

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

    @contextmanager
    def run(self, **about: Unpack[RunAbout]) -> Iterator[Run]:
        """Time a `with` block and publish it as a run when it ends.

        An exception makes the run `failed`, with the exception's class as its error code; a
        KeyboardInterrupt, SystemExit or cancellation makes it `cancelled`.
        """
        run = Run(about, self._source, self._guard)
        if self._emit_started:
            self._publish(run.started_event)
        run.begin()
        try:
            yield run
        except BaseException as error:
            run.ended_by(error)
            run.delivery = self._publish(run.completed_event, may_raise=False)
            raise
        run.delivery = self._publish(run.completed_event)

    @contextmanager
    def session(
        self, *, heartbeat_s: float = HEARTBEAT_S, **about: Unpack[SessionAbout]
    ) -> Iterator[Session]:
        """Publish that a session is up while a `with` block lasts: start, heartbeats, end.

        A background thread sends a heartbeat every `heartbeat_s` seconds.
        """
        session = Session(about, self._source)
        self._publish(session.started_event)
        beat = self._heartbeats.add(
            lambda: self._publish(session.heartbeat_event, may_raise=False), heartbeat_s
        )
        try:
            yield session
        except BaseException as error:
            self._heartbeats.remove(beat)
            session.ended_by(error)
            self._publish(session.ended_event, may_raise=False)
            raise
        self._heartbeats.remove(beat)
        self._publish(session.ended_event)

    def _publish(
        self, make: Callable[[], dict[str, Any]], *, may_raise: bool = True
    ) -> Delivery | None:
        receipt: object = None
        with self._guard(may_raise=may_raise):
            receipt = self._publisher.publish(make())
        return receipt if isinstance(receipt, Delivery) else None
