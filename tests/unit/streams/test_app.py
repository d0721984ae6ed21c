"""The app is put together from the settings: credentials, brokers, batching, exit statuses."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list

from meterstream.streams import app as meter_app
from meterstream.streams import logs, publisher
from meterstream.streams.app import build_app
from meterstream.streams.settings import MeterSettings


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl(protocol: str, mechanism: str) -> None:
    """User and password reach aiokafka with the protocol and mechanism that were asked for."""
    settings = MeterSettings(
        kafka_security_protocol=protocol,  # type: ignore[arg-type]
        kafka_sasl_mechanism=mechanism,  # type: ignore[arg-type]
        kafka_sasl_username="meter",
        kafka_sasl_password="hunter2",  # type: ignore[arg-type]
    )
    app, _ = build_app(settings)
    auth = credentials_to_aiokafka_auth(app.conf.broker_credentials)
    assert auth["security_protocol"] == protocol
    assert auth["sasl_mechanism"] == mechanism
    assert (auth["sasl_plain_username"], auth["sasl_plain_password"]) == ("meter", "hunter2")
    assert (auth["ssl_context"] is not None) == (protocol == "SASL_SSL")


def test_tls() -> None:
    """TLS without a user brings a context that checks the broker's certificate."""
    app, _ = build_app(MeterSettings(kafka_security_protocol="SSL"))
    auth = credentials_to_aiokafka_auth(app.conf.broker_credentials)
    assert auth["security_protocol"] == "SSL"
    assert auth["ssl_context"].check_hostname


def test_several_brokers() -> None:
    """All brokers that are named are asked."""
    app, _ = build_app(MeterSettings(kafka_bootstrap="one:9092,two:9093"))
    assert server_list(app.conf.broker_consumer, 9092) == ["one:9092", "two:9093"]


def test_what_faust_must_not_do() -> None:
    """No web server, no topics made, no leader topic, no tables, nothing on disk."""
    app, _ = build_app(MeterSettings())
    conf = app.conf
    assert not conf.web_enabled
    assert conf.topic_disable_leader
    assert not conf.topic_allow_declare
    assert not conf.stream_wait_empty
    assert not app.tables


@pytest.mark.parametrize("main", [meter_app.main, publisher.main])
def test_settings_that_cannot_be_used(
    main: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that cannot start says so in plain words, and exits with 2."""
    monkeypatch.setenv("METERSTREAM_TOPIC_PREFIX", "not a prefix")
    assert main([]) == 2  # type: ignore[operator]
    assert "METERSTREAM_TOPIC_PREFIX" in capsys.readouterr().err


def test_noisy_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """The libraries' small talk and repetitions stay out of the log; ours is there in full."""
    logs.set_up()
    for _ in range(5):
        logging.getLogger("aiokafka").error("Failed fetch messages from 1")
        logging.getLogger("meterstream.meter").warning("ours")
    logging.getLogger("faust.worker").info("Ready")
    logging.getLogger("meterstream.streams.app").error("Crashed reason=%r", "x")
    lines = capsys.readouterr().err.splitlines()
    assert sum("Failed fetch" in line for line in lines) == 1
    assert sum(line.endswith("Z WARNING meterstream.meter: ours") for line in lines) == 5
    assert len(lines) == 6
