"""Heartbeats where nothing else is published: how far partitions were counted, every second.

They tell only what transactions have made public before, so they need none of their own: an older
publisher that still sends one tells less than its successor, and readers ignore what is older.
"""

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException, Producer

from meterstream.schemas import topics as names
from meterstream.streams.settings import PublisherSettings

from .place import Place
from .transactions import silent

log = logging.getLogger("meterstream.publisher")

TIMEOUT_MS: Final = 5_000
"""One that is older than this is not worth sending any more."""


class Heartbeats:
    """Sends heartbeats of all partitions, and waits for none."""

    def __init__(self, settings: PublisherSettings) -> None:
        self._topic = settings.topic(names.LIMIT_STATES)
        self._producer = Producer(
            settings.client(linger_ms=5, message_timeout_ms=TIMEOUT_MS, acks="all"), logger=silent
        )

    def send(self, place: Place, delivered: Callable[[], None]) -> None:
        """Send the heartbeat of a place; `delivered` is called by a later `poll`, if it arrives."""

        def done(error: object, _message: object) -> None:
            if error is None:
                delivered()
            else:
                log.debug("the heartbeat of partition %d: %s", place.partition, error)

        key, value = place.heartbeat()
        try:
            self._producer.produce(self._topic, value, key, place.partition, on_delivery=done)
        except (BufferError, KafkaException) as failure:
            log.debug("the heartbeat of partition %d: %s", place.partition, failure)

    def poll(self) -> None:
        """Call back for those that arrived."""
        self._producer.poll(0)

    def close(self) -> None:
        """Drop those that are under way."""
        self._producer.purge()
