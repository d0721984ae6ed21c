"""What a broker says to a client that it does not let in."""

from typing import Final

from confluent_kafka import KafkaError

REFUSED: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}
)
ADVICE: Final = "check METERSTREAM_KAFKA_SECURITY_PROTOCOL, _SASL_* and _SSL_*"


class Refusal:
    """Hears the errors of one client: a call that only timed out may have had this cause.

    Give `hear` to the client as its `error_cb`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._said = ""

    def hear(self, error: KafkaError) -> None:
        """Keep what the broker says to credentials or certificates that it does not take."""
        if error.code() in REFUSED:
            self._said = error.str()

    def or_else(self, otherwise: str) -> str:
        """Return what was heard and what to do about it, or `otherwise` if nothing was."""
        if not self._said:
            return otherwise
        return f"Kafka at {self._address} refuses the connection ({self._said}): {ADVICE}"
