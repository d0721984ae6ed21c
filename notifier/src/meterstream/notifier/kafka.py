"""What the notifier asks of Kafka beside reading: ids of topics, and why it is not let in."""

import logging
import time
from typing import Final
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from meterstream.schemas.kafka_errors import REFUSED, refusal

from .errors import KafkaUnavailable
from .settings import NotifierSettings

TIMEOUT_S: Final = 15.0
EVERY_S: Final = 30.0

log = logging.getLogger(__name__)


class Refusals:
    """Hears the errors of a client: keeps and logs now and then that a broker refuses it.

    For a client's `error_cb`, called within its polls.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._next_s = 0.0
        self._said = ""

    def __call__(self, error: KafkaError) -> None:
        """Log a refusal, unless one was logged a moment ago."""
        if error.name() not in REFUSED:
            return
        self._said, now = error.str(), time.monotonic()
        if now >= self._next_s:
            self._next_s = now + EVERY_S
            log.error("%s; trying on", refusal(self._address, error.str()))

    def or_else(self, otherwise: str) -> str:
        """Return what was heard and what to do about it, or `otherwise` if nothing was."""
        return refusal(self._address, self._said) if self._said else otherwise


def topic_id(settings: NotifierSettings, name: str) -> UUID:
    """Return the id that the broker gave a topic when it was made.

    Raises KafkaUnavailable where the topic is missing or no broker tells.
    """
    topic, refusals = settings.topic(name), Refusals(settings.kafka_bootstrap)
    admin = AdminClient(settings.client() | {"error_cb": refusals})
    future = admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S)[topic]
    try:
        found = future.result().topic_id
    except KafkaException as failure:
        error = failure.args[0]
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaUnavailable(
                f"topic {topic} does not exist: create it with `meterstream topics`"
            ) from None
        admin.poll(0)
        raise KafkaUnavailable(
            refusals.or_else(
                f"Kafka at {settings.kafka_bootstrap} does not tell about topic {topic}:"
                f" {error.str()}. Is METERSTREAM_KAFKA_BOOTSTRAP right, and does it run?"
            )
        ) from None
    high = found.get_most_significant_bits() & (2**64 - 1)
    low = found.get_least_significant_bits() & (2**64 - 1)
    return UUID(int=high << 64 | low)
