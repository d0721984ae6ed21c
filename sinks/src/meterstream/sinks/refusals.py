"""Says that a broker does not let this process in; its clients try again for ever by themselves."""

import logging
import time
from typing import Final

from confluent_kafka import KafkaError

from meterstream.schemas.kafka_errors import REFUSED, refusal

EVERY_S: Final = 30.0

log = logging.getLogger(__name__)


class Refusals:
    """Logs what a broker says to credentials or certificates that it does not take, now and then.

    For a client's `error_cb`; called within its polls.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._next_s = 0.0

    def __call__(self, error: KafkaError) -> None:
        """Log a refusal, unless one was logged a moment ago."""
        now = time.monotonic()
        if error.name() in REFUSED and now >= self._next_s:
            self._next_s = now + EVERY_S
            log.error("%s; trying on", refusal(self._address, error.str()))
