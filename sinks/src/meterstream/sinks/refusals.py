"""Says that a broker does not let this process in; its clients try again for ever by themselves."""

import logging
import time
from typing import Final

from confluent_kafka import KafkaError

EVERY_S: Final = 30.0
_REFUSED: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}
)

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
        if error.code() in _REFUSED and now >= self._next_s:
            self._next_s = now + EVERY_S
            log.error(
                "Kafka at %s refuses the connection (%s): check"
                " METERSTREAM_KAFKA_SECURITY_PROTOCOL, _SASL_* and _SSL_*; trying on",
                self._address,
                error.str(),
            )
