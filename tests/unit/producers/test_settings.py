"""Settings are checked at once, and their secrets are never shown."""

from pathlib import Path
from typing import Any

import pytest

from meterstream.producers import InvalidSettings, Publisher, PublisherSettings

GOOD: dict[str, Any] = {"kafka_bootstrap": "127.0.0.1:9", "spool_dir": Path("/spool")}


def test_every_fault_is_named_at_once() -> None:
    """Four faults give four lines."""
    with pytest.raises(InvalidSettings) as caught:
        PublisherSettings.make(durability="maybe", publish_timeout_ms=0, spool_max_bytes=5, odd=1)
    text = str(caught.value)
    for field in ("kafka_bootstrap", "spool_dir", "durability", "publish_timeout_ms"):
        assert f"\n  {field} (METERSTREAM_{field.upper()}): " in text
    assert "\n  odd: " in text


@pytest.mark.parametrize(
    "name", ["acks", "partitioner", "enable.idempotence", "message.timeout.ms", "linger.ms"]
)
def test_what_the_guarantees_rest_on_cannot_be_overridden(name: str) -> None:
    """Order, durability and partitions are not for sale."""
    with pytest.raises(InvalidSettings, match=name):
        PublisherSettings.make(**GOOD, kafka={name: "1"})


def test_secrets_are_not_shown() -> None:
    """Neither the settings nor an error about them print what is in `kafka`."""
    settings = PublisherSettings.make(**GOOD, kafka={"sasl.password": "hunter2"})
    assert "hunter2" not in repr(settings)
    with pytest.raises(InvalidSettings) as caught:
        PublisherSettings.make(**GOOD, kafka={"acks": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_setting_that_librdkafka_does_not_know_is_refused(tmp_path: Path) -> None:
    """A misspelt Kafka setting fails when the publisher is made, and frees the spool."""
    good = {**GOOD, "spool_dir": tmp_path}
    with pytest.raises(InvalidSettings, match=r"sasl\.pasword"):
        Publisher(PublisherSettings.make(**good, kafka={"sasl.pasword": "x"}))
    assert list(tmp_path.iterdir()) == []


def test_the_environment_sets_every_field() -> None:
    """METERSTREAM_* variables are read, Kafka's own among them; arguments win."""
    settings = PublisherSettings.from_environment(
        {
            "METERSTREAM_KAFKA_BOOTSTRAP": "broker:9092",
            "METERSTREAM_SPOOL_DIR": "/var/spool/metering",
            "METERSTREAM_DURABILITY": "synced",
            "METERSTREAM_PUBLISH_TIMEOUT_MS": "20",
            "METERSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "METERSTREAM_KAFKA_SASL_USERNAME": "service",
            "METERSTREAM_KAFKA_SSL_CA_FILE": "/ca.pem",
            "METERSTREAM_GRACE_S": "600",
            "HOME": "/root",
        },
        source="/services/chat",
        publish_timeout_ms=30,
    )
    assert settings.kafka_bootstrap == "broker:9092"
    assert settings.spool_dir == Path("/var/spool/metering")
    assert settings.durability == "synced"
    assert settings.publish_timeout_ms == 30
    assert settings.source == "/services/chat"
    assert settings.kafka == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "service",
        "ssl.ca.location": "/ca.pem",
    }


def test_a_publisher_without_settings_takes_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is handed in, METERSTREAM_* decide, and what lacks is named."""
    monkeypatch.setenv("METERSTREAM_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    with pytest.raises(InvalidSettings, match=r"METERSTREAM_SPOOL_DIR\): Field required"):
        Publisher()
    monkeypatch.setenv("METERSTREAM_SPOOL_DIR", str(tmp_path))
    with Publisher() as publisher:
        assert publisher.settings.spool_dir == tmp_path


def test_the_events_topic_follows_from_the_prefix() -> None:
    """All parts of Meterstream find the topic by the same prefix."""
    assert PublisherSettings.make(**GOOD).topic == "meterstream.events"
    assert PublisherSettings.make(**GOOD, topic_prefix="x.").topic == "x.events"
