"""The errors of Kafka that all services know by name."""

import pytest
from confluent_kafka import KafkaError

from meterstream.schemas.kafka_errors import REFUSED, UNREADABLE


@pytest.mark.parametrize("name", sorted(REFUSED | UNREADABLE))
def test_each_is_what_the_client_calls_it(name: str) -> None:
    """An error made from the client's constant has that name."""
    assert KafkaError(getattr(KafkaError, name)).name() == name
