"""Settings are checked at start, all at once, and never tell a secret."""

from pathlib import Path

import pytest

from meterstream.streams.settings import MeterSettings, PublisherSettings, SettingsInvalid, load


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP", "TOPIC_PREFIX"):
        monkeypatch.delenv(f"METERSTREAM_{name}", raising=False)


def test_every_fault_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All settings that cannot be used are named in one message, by their variables."""
    monkeypatch.setenv("METERSTREAM_GRACE_SECONDS", "soon")
    monkeypatch.setenv("METERSTREAM_HORIZON_HOURS", "100000")
    monkeypatch.setenv("METERSTREAM_TOPIC_PREFIX", "a b")
    with pytest.raises(SettingsInvalid) as refused:
        load(MeterSettings)
    text = str(refused.value)
    for name in ("GRACE_SECONDS", "HORIZON_HOURS", "TOPIC_PREFIX"):
        assert f"METERSTREAM_{name}" in text
    assert "soon" not in text


def test_a_horizon_shorter_than_the_grace() -> None:
    """Settings that contradict each other are refused by name."""
    with pytest.raises(SettingsInvalid, match=r"HORIZON_HOURS must be longer than .*GRACE_SECONDS"):
        load(MeterSettings, grace_seconds=3600, horizon_hours=1)
    with pytest.raises(SettingsInvalid, match="GRACE_SECONDS: Input should be less than or equal"):
        load(MeterSettings, grace_seconds=65_536)


def test_secrets_are_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is in no message and no representation, and reaches the client."""
    monkeypatch.setenv("METERSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("METERSTREAM_KAFKA_SASL_PASSWORD", "hunter2")
    with pytest.raises(SettingsInvalid) as refused:
        load(MeterSettings)
    assert "METERSTREAM_KAFKA_SASL_USERNAME" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("METERSTREAM_KAFKA_SASL_USERNAME", "meter")
    settings = load(MeterSettings)
    assert "hunter2" not in repr(settings)
    client = settings.client(acks="all")
    assert client["sasl.password"] == "hunter2"
    assert client["sasl.mechanism"] == "PLAIN"
    assert client["acks"] == "all"


def test_files_must_be_there(tmp_path: Path) -> None:
    """A certificate that is not there is named; one that is there reaches the client."""
    with pytest.raises(SettingsInvalid, match="METERSTREAM_KAFKA_SSL_CA_FILE"):
        load(MeterSettings, kafka_ssl_ca_file=tmp_path / "absent.pem")
    file = tmp_path / "ca.pem"
    file.touch()
    settings = load(MeterSettings, kafka_ssl_ca_file=file, kafka_ssl_key_password="s3cret")
    assert settings.client()["ssl.ca.location"] == str(file)
    assert settings.client()["ssl.key.password"] == "s3cret"


def test_defaults() -> None:
    """Without any variable the services use the contract's topic names and loopback."""
    assert load(MeterSettings).topic("events") == "meterstream.events"
    assert load(PublisherSettings).metrics_host == "127.0.0.1"
    assert load(MeterSettings).journal_max_bytes < 16 * 1024 * 1024


def test_the_log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level may be written small; one that does not exist is refused by name."""
    monkeypatch.setenv("METERSTREAM_LOG_LEVEL", "warning")
    assert load(PublisherSettings).log_level == "WARNING"
    monkeypatch.setenv("METERSTREAM_LOG_LEVEL", "loud")
    with pytest.raises(SettingsInvalid, match="METERSTREAM_LOG_LEVEL"):
        load(MeterSettings)
