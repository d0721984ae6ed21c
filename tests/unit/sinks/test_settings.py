"""Settings are checked once, at start, with every fault at once, and tell no secrets."""

import pytest

from meterstream.sinks.settings import SettingsInvalid, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("METERSTREAM_"):
            monkeypatch.delenv(name)


def test_defaults_work_on_one_machine() -> None:
    """All feeds, the usual names."""
    settings = load_settings()
    assert settings.sink_feeds == ("cells", "history", "catalog", "organisations")
    assert settings.group("cells") == "meterstream.sink-cells"
    assert settings.topic("journal") == "meterstream.journal"


def test_feeds_are_named_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """White space and repetition do not matter."""
    monkeypatch.setenv("METERSTREAM_SINK_FEEDS", "history, cells,history")
    assert load_settings().sink_feeds == ("history", "cells")


def test_every_fault_is_named_at_once_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the message can mend everything, and sees no password."""
    monkeypatch.setenv("METERSTREAM_CLICKHOUSE_URL", "http://user:s3cret@host:1")
    monkeypatch.setenv("METERSTREAM_SINK_FLUSH_MS", "-5")
    monkeypatch.setenv("METERSTREAM_SINK_FEEDS", "cells,everything")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    text = str(caught.value)
    for name in ("CLICKHOUSE_URL", "SINK_FLUSH_MS", "SINK_FEEDS"):
        assert f"METERSTREAM_{name}" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"sink_feeds": ""}, "names no feed"),
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_USERNAME"),
        ({"kafka_ssl_ca_file": "/nowhere/ca.pem"}, "no file"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    given: dict[str, object], reason: str
) -> None:
    """The message says what is missing."""
    with pytest.raises(SettingsInvalid, match=reason):
        load_settings(**given)


def test_the_password_is_not_shown() -> None:
    """Neither as text nor in a log of the settings."""
    settings = load_settings(clickhouse_password="s3cret", kafka_sasl_password="s3cret")
    assert "s3cret" not in repr(settings)


def test_kafka_clients_get_what_they_need(tmp_path: object) -> None:
    """Security settings reach librdkafka under its own names."""
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    config = load_settings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="u",
        kafka_sasl_password="p",
        kafka_ssl_ca_file=ca,
        kafka_ssl_key_password="k",
    ).kafka_client()
    assert config["sasl.password"] == "p"
    assert config["ssl.key.password"] == "k"
    assert config["ssl.ca.location"] == str(ca)
