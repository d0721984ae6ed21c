"""What a broker says to a client that it does not let in."""

from confluent_kafka import KafkaError

from meterstream.schemas.kafka_errors import REFUSED, refusal


class Refusal:
    """Hears the errors of one client: a call that only timed out may have had this cause.

    Give `hear` to the client as its `error_cb`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._said = ""

    def hear(self, error: KafkaError) -> None:
        """Keep what the broker says to credentials or certificates that it does not take."""
        if error.name() in REFUSED:
            self._said = error.str()

    def or_else(self, otherwise: str) -> str:
        """Return what was heard and what to do about it, or `otherwise` if nothing was."""
        return refusal(self._address, self._said) if self._said else otherwise
