"""The receipt for an accepted event: where it is, and waiting until the broker has it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from .exceptions import DeliveryTimeout, ProducerError
from .ticket import DeliveryState, Ticket

_LOGGER: Final = logging.getLogger("meterstream.producers")


class _Receipt:
    """What both receipts tell. It costs the publisher nothing while nobody asks."""

    __slots__ = ("_ticket",)

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    @property
    def event_id(self) -> str:
        """The event's id: the same in every attempt."""
        return self._ticket.event_id

    @property
    def team_id(self) -> str:
        """The team whose event it is."""
        return self._ticket.team_id

    @property
    def state(self) -> DeliveryState:
        """How far the event has come by now."""
        return self._ticket.state()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.event_id}: {self.state}>"


class Delivery(_Receipt):
    """The receipt of `Publisher.publish`."""

    __slots__ = ()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when the broker has acknowledged the event.

        Raises DeliveryTimeout if that takes longer (the event stays in the spool), EventRefused
        if the broker will never take it, SpoolFailed if it never reached the spool.
        """
        done = threading.Event()
        found: list[ProducerError | None] = []

        def settled(error: ProducerError | None) -> None:
            found.append(error)
            done.set()

        self._ticket.watch(settled)
        if not done.wait(timeout_s):
            self._ticket.unwatch(settled)
            if not done.is_set():
                raise _not_yet(self, timeout_s)
        if found[0] is not None:
            raise found[0]

    def add_callback(self, callback: Callable[["Delivery"], None]) -> None:
        """Have `callback(delivery)` called once, when the event is acknowledged or refused.

        It runs in one of the SDK's threads (or at once, if it is settled already): it must be
        quick and must not wait. What it raises is logged.
        """

        def settled(_error: ProducerError | None) -> None:
            try:
                callback(self)
            except Exception:  # the caller's code must not stop the SDK's threads
                _LOGGER.exception("a delivery callback failed, for event %s", self.event_id)

        self._ticket.watch(settled)


class AsyncDelivery(_Receipt):
    """The receipt of `AsyncPublisher.publish`."""

    __slots__ = ()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when the broker has acknowledged the event; errors as `Delivery.wait`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ProducerError | None] = loop.create_future()

        def resolve(error: ProducerError | None) -> None:
            if not future.done():
                future.set_result(error)

        def settled(error: ProducerError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(resolve, error)

        self._ticket.watch(settled)
        try:
            error = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise _not_yet(self, timeout_s) from None
        finally:
            self._ticket.unwatch(settled)
        if error is not None:
            raise error


def _not_yet(receipt: _Receipt, timeout_s: float | None) -> DeliveryTimeout:
    return DeliveryTimeout(
        f"event {receipt.event_id} is {receipt.state} and not acknowledged after {timeout_s} s;"
        " it will be sent as soon as the broker takes it"
    )
