"""The gate on a real broker: it reads what is committed, from the beginning, then on."""

import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry
from tests.support.limit_states import StatesTopic, heartbeats, limit, removed
from tests.support.publishing import create_events_topic, make_settings, run_event
from tests.support.waiting import eventually

from meterstream.producers import (
    Amounts,
    GateNotReady,
    GateSettings,
    InvalidSettings,
    LimitGate,
    Meter,
    Publisher,
)

TIMEOUT_S = 60


def _gate(bootstrap: str, prefix: str, **settings: Any) -> LimitGate:
    told = {"gate_max_age_s": 600, **settings}  # these tests tell the time once, and may be slow
    made = GateSettings.make(kafka_bootstrap=bootstrap, topic_prefix=prefix, **told)
    return LimitGate(made, registry=CollectorRegistry())


def test_a_gate_reads_all_that_was_committed_and_follows(kafka: str, prefix: str) -> None:
    """It waits for the topic, loads it, and learns of states and removals; aborted ones are not."""
    with _gate(kafka, prefix, gate_fail="fail_closed") as gate:
        with pytest.raises(GateNotReady, match="fail_closed decides"):
            gate.wait_ready(0.1)
        eventually(
            lambda: "UnknownTopic" in _why_not_ready(gate), TIMEOUT_S, "the missing topic is told"
        )
        assert gate.check("team-1").rule == "fail_closed"
        topic = StatesTopic(kafka, prefix)
        topic.create()
        full = limit("team-2", used=10)
        topic.write(limit(used=3), full, heartbeats(1))
        topic.write(limit(used=10, offset=2), removed(full), commit=False)
        gate.wait_ready(TIMEOUT_S)
        assert gate.check("team-1").left("runs") == 7
        assert gate.check("team-2").rule == "blocked"
        topic.write(limit(used=10, offset=3), removed(full), heartbeats(3))
        eventually(
            lambda: gate.check("team-1").rule == "blocked" and gate.check("team-2").allowed,
            TIMEOUT_S,
            "the states that follow are learned",
        )
    assert gate.check("team-1").rule == "fail_closed"
    with _gate(kafka, prefix) as again:
        again.wait_ready(TIMEOUT_S)
        assert again.check("team-1").rule == "blocked"


def test_a_topic_that_never_rests_is_read_to_its_end(kafka: str, prefix: str) -> None:
    """A gate is ready once it has what was there when it began, whatever is written meanwhile."""
    topic = StatesTopic(kafka, prefix)
    topic.create()
    topic.write(limit(used=10), heartbeats(1))
    stop = threading.Event()

    def write() -> None:
        order = 1
        while not stop.wait(0.02):
            order += 1
            topic.write(heartbeats(order))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with _gate(kafka, prefix) as gate:
            gate.wait_ready(TIMEOUT_S)
            assert not gate.check("team-1")
    finally:
        stop.set()
        writer.join(TIMEOUT_S)


def _why_not_ready(gate: LimitGate) -> str:
    try:
        gate.wait_ready(0)
    except GateNotReady as error:
        return str(error)
    return "ready"


def test_what_a_run_used_is_held_until_its_event_was_counted(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """The receipt of the run's own event tells which position ends what is held."""
    create_events_topic(kafka, prefix)
    topic = StatesTopic(kafka, prefix)
    topic.create()
    topic.write(limit(amount=2), heartbeats(0))
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix)
    with _gate(kafka, prefix) as gate, Publisher(settings) as publisher:
        gate.wait_ready(TIMEOUT_S)
        meter = Meter(publisher, source="/tests", raise_errors=True)
        publisher.publish(run_event(1)).wait(TIMEOUT_S)
        reservation = gate.reserve(Amounts(runs=1), "team-1")
        with meter.run(team_id="team-1") as run:
            run.tokens(input=1)
        reservation.settle(Amounts(runs=1), run.delivery)
        assert run.delivery is not None
        run.delivery.wait(TIMEOUT_S)
        topic.write(heartbeats(1, position=1), limit("team-2", used=10))
        eventually(lambda: not gate.check("team-2"), TIMEOUT_S, "the first heartbeats are learned")
        assert gate.check("team-1").left("runs") == 1
        topic.write(heartbeats(2, position=2))
        eventually(
            lambda: gate.check("team-1").left("runs") == 2, TIMEOUT_S, "the second event is counted"
        )


def test_a_topic_that_was_made_again_unblocks_nothing(kafka: str, prefix: str) -> None:
    """While the topic is gone, empty or half written, what was known holds."""
    topic = StatesTopic(kafka, prefix)
    topic.create()
    topic.write(limit(used=10, offset=5), heartbeats(5))
    topic.write(limit("team-2", used=10, offset=5))
    with _gate(kafka, prefix) as gate:
        gate.wait_ready(TIMEOUT_S)
        assert not gate.check("team-1")
        topic.delete()
        eventually(lambda: _recreated(topic), TIMEOUT_S, "the topic is made again")
        topic.write(limit(used=1, offset=4), heartbeats(4))
        topic.write(limit("team-2", used=1, offset=6), heartbeats(6))
        eventually(lambda: gate.check("team-2"), TIMEOUT_S, "the new topic is followed")
        assert not gate.check("team-1")


def _recreated(topic: StatesTopic) -> bool:
    try:
        topic.create()
    except KafkaException as error:
        raise AssertionError(str(error)) from None
    return True


def test_a_setting_that_librdkafka_does_not_know_is_refused(kafka: str, prefix: str) -> None:
    """A misspelt Kafka setting fails when the gate is made."""
    with pytest.raises(InvalidSettings, match=r"sasl\.pasword"):
        _gate(kafka, prefix, kafka={"sasl.pasword": "x"})
