"""Limits of organisations on a real broker, by records as the publisher and admins write them."""

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry
from tests.support.limit_states import (
    PARTITIONS,
    Entry,
    StatesTopic,
    heartbeats,
    organisation_entry,
    organisation_heartbeats,
    organisation_limit,
    team_entry,
)
from tests.support.waiting import eventually

from meterstream.producers import Amounts, GateSettings, LimitGate, UnknownTopic
from meterstream.producers.gate import follower
from meterstream.schemas.partitions import partition_of

TIMEOUT_S = 60


class _CatalogTopic:
    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.name = f"{prefix}catalog"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer({"bootstrap.servers": bootstrap})

    def create(self) -> None:
        new = NewTopic(self.name, 1, 1, config={"cleanup.policy": "compact"})
        self._admin.create_topics([new])[self.name].result(TIMEOUT_S)

    def delete(self) -> None:
        self._admin.delete_topics([self.name])[self.name].result(TIMEOUT_S)

    def write(self, *entries: Entry) -> None:
        for entry in entries:
            self._producer.produce(self.name, entry.value, entry.key, partition=0)
        assert self._producer.flush(TIMEOUT_S) == 0


def _recreated(topic: _CatalogTopic) -> bool:
    try:
        topic.create()
    except KafkaException as error:
        raise AssertionError(str(error)) from None
    return True


def test_a_gate_learns_whose_limits_a_team_is_under(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads states without a catalog, the catalog once there is one, and one made again."""
    monkeypatch.setattr(follower, "_LOOK_S", 0.5)
    states, catalog = StatesTopic(kafka, prefix), _CatalogTopic(kafka, prefix)
    states.create()
    states.write(heartbeats(1))
    told: list[Exception] = []
    settings = GateSettings.make(
        kafka_bootstrap=kafka,
        topic_prefix=prefix,
        gate_fail="fail_closed",
        gate_max_age_s=600,  # the time is told seldom here, and may pass slowly
    )
    with LimitGate(settings, registry=CollectorRegistry(), on_error=told.append) as gate:
        gate.wait_ready(TIMEOUT_S)
        assert gate.check("team-1").rule == "within_limits"
        states.write(organisation_limit("group", used=10), organisation_heartbeats(1))
        eventually(
            lambda: gate.check("team-1").rule == "fail_closed",
            TIMEOUT_S,
            "whose limit it is, is unknown",
        )
        assert [type(error) for error in told] == [UnknownTopic]
        assert "no topic" in str(told[0])
        assert catalog.name in str(told[0])
        catalog.create()
        catalog.write(team_entry("team-1", "acme"), organisation_entry("acme", "group"))
        eventually(lambda: gate.check("team-1").rule == "blocked", TIMEOUT_S, "the catalog is read")
        assert gate.check("team-1").refused_by[0].organisation_id == "group"
        assert gate.check("team-2").rule == "within_limits"
        states.write(organisation_limit("group", offset=2), organisation_heartbeats(2))
        eventually(lambda: gate.check("team-1"), TIMEOUT_S, "the organisation admits again")
        gate.reserve(Amounts(runs=1), "team-1").settle(Amounts(runs=4), 7)
        here = partition_of("team-1", PARTITIONS)
        states.write(
            organisation_limit("group", used=4, offset=3), organisation_heartbeats(3, {here: 8})
        )
        eventually(
            lambda: [(one.used, one.held) for one in gate.check("team-1").limits] == [(4, 0)],
            TIMEOUT_S,
            "the run is part of what is told",
        )
        catalog.delete()
        eventually(lambda: _recreated(catalog), TIMEOUT_S, "the catalog is made again")
        states.write(organisation_limit("group", used=10, offset=4), heartbeats(4))
        eventually(lambda: not gate.check("team-1"), TIMEOUT_S, "what was known still holds")
        catalog.write(team_entry("team-2", "group"))
        eventually(lambda: not gate.check("team-2"), TIMEOUT_S, "the new catalog is read")
        assert gate.check("team-1").rule == "blocked"
    with LimitGate(settings, registry=CollectorRegistry()) as again:
        again.wait_ready(TIMEOUT_S)
        assert again.check("team-2").rule == "blocked"
        assert again.check("team-1").rule == "within_limits"
