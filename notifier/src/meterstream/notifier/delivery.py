"""One event on its way to one destination: its attempts, and what follows from each."""

import logging
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .backoff import Backoff
from .dead import DeadNotification
from .file import Destination
from .metrics import NotifierMetrics
from .parcel import Failed, Notice, Parcel

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Delivery:
    """A notice that is not delivered yet. Its place in the topic is not passed before it is."""

    partition: int
    offset: int
    notice: Notice
    parcel: Parcel
    attempts: int = 0
    first_at: datetime | None = None
    due_s: float = 0.0
    """When it is to be tried again, on the monotonic clock."""
    letter: DeadNotification | None = field(default=None)
    """Set once it is given up: what has to stand on the dead-letter list before it is passed."""


class Attempts:
    """Tries deliveries of one destination, and decides what becomes of them."""

    def __init__(
        self, destination: Destination, backoff: Backoff, metrics: NotifierMetrics
    ) -> None:
        self.held_until_s = 0.0
        """Before this nothing is sent: the destination has asked for it."""
        self._destination = destination
        self._backoff = backoff
        self._chance = random.Random()
        kind = destination.kind
        self._sent = metrics.sent.labels(kind)
        self._failed = metrics.failed_attempts.labels(kind)
        self._retries = metrics.retries.labels(kind)
        self._seconds = metrics.delivery_seconds.labels(kind)

    def attempt(self, delivery: Delivery) -> bool:
        """Try once; True if it is delivered. Else it has a new due time, or a letter."""
        now = datetime.now(UTC)
        delivery.first_at = delivery.first_at or now
        delivery.attempts += 1
        if delivery.attempts > 1:
            self._retries.inc()
        failure = self._try(delivery.parcel)
        if failure is None:
            self._sent.inc()
            age = datetime.now(UTC) - delivery.notice.event.time
            self._seconds.observe(max(0.0, age.total_seconds()))
            return True
        self._failed.inc()
        self._follow(delivery, failure)
        return False

    def _try(self, parcel: Parcel) -> Failed | None:
        try:
            return parcel.attempt()
        except Exception as error:  # a bug must not hold the events behind this one for ever
            log.exception("destination %s: an attempt failed unexpectedly", self._destination.name)
            return Failed(f"unexpected {type(error).__name__}")

    def _follow(self, delivery: Delivery, failure: Failed) -> None:
        now, now_s = datetime.now(UTC), time.monotonic()
        first_at = delivery.first_at or now
        held_s = self._backoff.hold_s if failure.gone else self._backoff.held_s(failure.hold_s)
        if held_s:
            self.held_until_s = max(self.held_until_s, now_s + held_s)
        since_s = (now - first_at).total_seconds()
        name, event_id = self._destination.name, delivery.notice.event.id
        if failure.final or self._backoff.is_over(delivery.attempts, since_s):
            delivery.letter = self._letter(delivery, failure, now)
            log.error(
                "destination %s: event %s is given up after %d attempts: %s",
                name,
                event_id,
                delivery.attempts,
                failure.error,
            )
            return
        pause_s = max(self._backoff.pause_s(delivery.attempts, self._chance), held_s)
        delivery.due_s = now_s + pause_s
        log.warning(
            "destination %s: attempt %d of event %s failed, trying again in %.1f s: %s",
            name,
            delivery.attempts,
            event_id,
            pause_s,
            failure.error,
        )

    def _letter(self, delivery: Delivery, failure: Failed, now: datetime) -> DeadNotification:
        return DeadNotification(
            delivery_id=delivery.notice.delivery_id,
            destination=self._destination.name,
            kind=self._destination.kind,
            event_id=delivery.notice.event.id,
            attempts=delivery.attempts,
            first_attempt_at=delivery.first_at or now,
            given_up_at=now,
            error=failure.error,
            recipients=delivery.parcel.recipients,
            event=delivery.notice.value.decode(),
        )
