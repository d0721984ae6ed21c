"""What some errors of Kafka mean to every service: by name, since the schemas need no client.

A name is what confluent-kafka's `KafkaError.name()` returns, and that of its constant.
"""

from typing import Final

UNREADABLE: Final = frozenset({"_BAD_MSG", "_BAD_COMPRESSION", "_NOT_IMPLEMENTED"})
"""What the client says of a batch whose bytes are damaged; it does not get past it by itself."""

MOVING: Final = frozenset({"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE"})
"""What brokers say of a partition whose leader is being chosen: it passes by itself."""

REFUSED: Final = frozenset({"_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED"})
"""What the client says of a broker that does not let it in; it tries again for ever."""


def refusal(address: str, said: str) -> str:
    """Return that the broker at `address` does not let us in, what it said, and what to check."""
    return (
        f"Kafka at {address} refuses the connection ({said}):"
        " check METERSTREAM_KAFKA_SECURITY_PROTOCOL, _SASL_* and _SSL_*"
    )
