"""What is said of a broker that does not let the sink in."""

import time

import pytest
from confluent_kafka import KafkaError

from meterstream.sinks.refusals import EVERY_S, Refusals


def test_a_refusal_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client tries again several times a second; the log names the address twice a minute."""
    now_s = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    hear = Refusals("kafka:9092")
    refused = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication failed")
    for _ in range(3):
        hear(refused)
    assert len(caplog.records) == 1
    assert "kafka:9092" in caplog.text
    assert "SASL authentication failed" in caplog.text
    now_s += EVERY_S
    hear(refused)
    assert len(caplog.records) == 2


def test_other_errors_are_not_taken_for_refusals(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is away is told of elsewhere."""
    Refusals("kafka:9092")(KafkaError(KafkaError._TRANSPORT))
    assert caplog.records == []
