"""A broker that asks who is there: refusals are named, and what was accepted outlives them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from prometheus_client import CollectorRegistry
from tests.support.guarded import GuardedBroker, guarded_broker
from tests.support.limit_states import (
    StatesTopic,
    heartbeats,
    limit,
    organisation_heartbeats,
    organisation_limit,
)
from tests.support.publishing import create_events_topic, make_settings, read_topic, run_event
from tests.support.waiting import eventually

from meterstream.producers import (
    AuthenticationFailed,
    DeliveryTimeout,
    GateNotReady,
    GateSettings,
    LimitGate,
    NotAuthorised,
    Publisher,
    PublisherSettings,
)
from meterstream.producers.gate import follower

TIMEOUT_S = 90


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    """Return a broker with users, passwords and access rules."""
    passwords = {"service": "right", "stranger": "known"}
    directory = tmp_path_factory.mktemp("guarded")
    with guarded_broker(directory, "SASL_PLAINTEXT", passwords) as broker:
        yield broker


def _settings(
    spool_dir: Path, guarded: GuardedBroker, prefix: str, user: str, password: str
) -> PublisherSettings:
    return make_settings(
        spool_dir,
        guarded.guarded_bootstrap,
        topic_prefix=prefix,
        kafka={
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
        },
    )


@contextmanager
def _allowed(
    guarded: GuardedBroker, user: str, topic: str, operation: AclOperation = AclOperation.WRITE
) -> Iterator[None]:
    """Allow the user to write to the topic, or what else is told."""
    admin = AdminClient({"bootstrap.servers": guarded.open_bootstrap})
    rules = [
        AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
    ]
    for done in admin.create_acls(rules).values():
        done.result(TIMEOUT_S)
    yield


def test_wrong_credentials_are_named_and_nothing_is_lost(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    """With a wrong password events wait; a publisher with the right one sends them."""
    topic = create_events_topic(guarded.open_bootstrap, "a.")
    told: list[Exception] = []
    wrong = _settings(tmp_path, guarded, "a.", "service", "wrong")
    with Publisher(wrong, on_error=told.append) as publisher:
        with pytest.raises(AuthenticationFailed, match=r"check sasl\.\*") as caught:
            publisher.check(5)
        assert "wrong" not in str(caught.value)
        publisher.publish(run_event(1))
        eventually(
            lambda: any(isinstance(error, AuthenticationFailed) for error in told),
            TIMEOUT_S,
            "the callback is told",
        )
        with pytest.raises(DeliveryTimeout, match="AuthenticationFailed"):
            publisher.flush(0.1)
    with _allowed(guarded, "service", topic):
        right = _settings(tmp_path, guarded, "a.", "service", "right")
        with Publisher(right) as publisher:
            publisher.check(TIMEOUT_S)
            publisher.publish(run_event(2)).wait(TIMEOUT_S)
            publisher.flush(TIMEOUT_S)
    assert len(read_topic(guarded.open_bootstrap, topic)) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_user_that_may_not_write_is_told_and_served_once_it_may(
    guarded: GuardedBroker, tmp_path: Path
) -> None:
    """Without the right to write events wait; granting it is enough."""
    topic = create_events_topic(guarded.open_bootstrap, "b.")
    told: list[Exception] = []
    settings = _settings(tmp_path, guarded, "b.", "stranger", "known")
    with Publisher(settings, on_error=told.append) as publisher:
        with pytest.raises(
            NotAuthorised, match=r"grant WRITE .* b\.events|b\.events.* grant WRITE"
        ):
            publisher.check(TIMEOUT_S)
        for number in range(10):
            publisher.publish(run_event(number))
        eventually(
            lambda: any(isinstance(error, NotAuthorised) for error in told),
            TIMEOUT_S,
            "the callback is told",
        )
        with _allowed(guarded, "stranger", topic):
            publisher.flush(TIMEOUT_S)
    assert len(read_topic(guarded.open_bootstrap, topic)) == 10


def test_a_gate_needs_the_right_to_read_its_topics_and_no_other(
    guarded: GuardedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the right it says so; with it, and with none on any group, it knows the limits.

    Where only the catalog may not be read it says so and knows those of teams.
    """
    monkeypatch.setattr(follower, "_LOOK_S", 0.5)
    new = NewTopic("c.catalog", 1, 1)
    admin = AdminClient({"bootstrap.servers": guarded.open_bootstrap})
    admin.create_topics([new])[new.topic].result(TIMEOUT_S)
    topic = StatesTopic(guarded.open_bootstrap, "c.")
    topic.create()
    topic.write(limit(used=10), heartbeats(1))
    settings = GateSettings.make(
        kafka_bootstrap=guarded.guarded_bootstrap,
        topic_prefix="c.",
        kafka={
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "stranger",
            "sasl.password": "known",
        },
    )
    told: list[Exception] = []
    with LimitGate(settings, registry=CollectorRegistry(), on_error=told.append) as gate:
        eventually(
            lambda: any(isinstance(error, NotAuthorised) for error in told),
            TIMEOUT_S,
            "the callback is told",
        )
        with pytest.raises(GateNotReady, match=r"grant READ on the topic"):
            gate.wait_ready(0)
        with _allowed(guarded, "stranger", topic.name, AclOperation.READ):
            gate.wait_ready(TIMEOUT_S)
            assert not gate.check("team-1")
            assert any(new.topic in str(error) and "grant READ" in str(error) for error in told)
            topic.write(organisation_limit(), organisation_heartbeats(1))
            eventually(
                lambda: gate.check("team-2").rule == "fail_open",
                TIMEOUT_S,
                "whose limit it is, is unknown",
            )
            with _allowed(guarded, "stranger", new.topic, AclOperation.READ):
                eventually(
                    lambda: gate.check("team-2").rule == "within_limits",
                    TIMEOUT_S,
                    "the catalog is read once it may be",
                )
