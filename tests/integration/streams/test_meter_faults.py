"""The meter under faults: whatever dies, pauses or comes back, each run is counted exactly once."""

import os
import signal
import time

import pytest
from tests.support.services import (
    PUBLISHER,
    Sender,
    check,
    create_topics,
    read_decided,
    services,
    wait_decided,
    wait_until,
)
from tests.support.stack import OwnKafka
from tests.support.waiting import eventually

from meterstream.streams.ending import EXIT_STATUS

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 4
KILLS = int(os.environ.get("METERSTREAM_TEST_KILLS", "2"))


def test_kills(kafka: str, prefix: str) -> None:
    """Meters that are killed in the middle of batches leave nothing lost and nothing twice."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start().wait_ready()
        for _ in range(KILLS):
            before = read_decided(kafka, prefix).offsets
            sender.send(6000)
            wait_until(
                kafka,
                prefix,
                lambda decided, n=before: decided.offsets > n,  # type: ignore[misc]
                "the meter is in the middle of it",
            )
            meter.kill()
            meter = start()
        sender.send(1000)
        check(wait_decided(kafka, prefix), sender.sent)
        assert meter.stop() == 0


def test_two_writers(kafka: str, prefix: str) -> None:
    """Two groups of meters on one journal void each other's records, and the chain stays exact."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meters = [start(group="one"), start(group="other", batch_max_events=333)]
        for _ in range(3):
            sender.send(3000)
        decided = wait_decided(kafka, prefix)
        check(decided, sender.sent)
        assert decided.void_records > 0
        assert all("another writer" in meter.log for meter in meters)


def test_a_paused_meter_wakes_up(kafka: str, prefix: str) -> None:
    """A meter that sleeps past its session and wakes up changes nothing that others decided."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        sleeper, other = start().wait_ready(), start().wait_ready()
        sender.send(4000, per_second=4000)
        sleeper.signal(signal.SIGSTOP)
        sender.send(4000)
        eventually(
            lambda: "partitions assigned: 0, 1, 2, 3" in other.log,
            120,
            "the other meter has taken all partitions over",
        )
        wait_decided(kafka, prefix)
        sender.send(4000)
        sleeper.signal(signal.SIGCONT)
        sender.send(4000)
        check(wait_decided(kafka, prefix), sender.sent)


def test_meters_join_and_leave(kafka: str, prefix: str) -> None:
    """Partitions that move between meters, in order or not, are decided by one at a time."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        first = start().wait_ready()
        sender.send(4000)
        second = start()
        sender.send(4000)
        second.wait_ready()
        assert first.stop() == 0
        sender.send(4000)
        third = start().wait_ready()
        sender.send(4000)
        second.kill()
        check(wait_decided(kafka, prefix), sender.sent)
        assert third.stop() == 0


def test_broker_restart(own_kafka: OwnKafka) -> None:
    """A broker that goes away and comes back delays the count, and changes nothing in it.

    Services that are told to end while it is away do end.
    """
    kafka, prefix = own_kafka.bootstrap, "restart."
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(
        kafka,
        prefix,
    ) as start:
        meter = start().wait_ready()
        sender.send(6000)
        own_kafka.stop()
        own_kafka.start()
        sender.send(3000)
        check(wait_decided(kafka, prefix), sender.sent)
        sender.send(3000)
        own_kafka.kill()
        own_kafka.start()
        sender.send(3000)
        check(wait_decided(kafka, prefix), sender.sent)
        assert meter.process.poll() is None
        publisher = start(PUBLISHER).wait_ready()
        own_kafka.kill()
        for service in (meter, publisher):
            service.signal(signal.SIGTERM)
        for service in (meter, publisher):
            assert service.process.wait(60) in (0, EXIT_STATUS), service.log[-2000:]


def test_the_catalog_cannot_be_read(own_kafka: OwnKafka) -> None:
    """Without a catalog that was seen complete not long ago nothing is decided, and it is said."""
    kafka, prefix = own_kafka.bootstrap, "catalog."
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start(catalog_max_age_seconds=6).wait_ready()
        sender.send(500)
        wait_decided(kafka, prefix)
        own_kafka.stop()
        eventually(lambda: "catalog" in (meter.faults() or {}), 60, "the meter is not ready")
        own_kafka.start()
        sender.send(500)
        check(wait_decided(kafka, prefix), sender.sent)
        eventually(lambda: meter.faults() == {}, 60, "the meter is ready again")


def test_idle_partitions(kafka: str, prefix: str) -> None:
    """The clock of a partition without any events goes on by idle records."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        start(idle_seconds=0.3)
        sender.send(100)
        sent_us = time.time_ns() // 1000
        decided = wait_until(
            kafka,
            prefix,
            lambda d: len(d.clocks_us) == PARTITIONS and min(d.clocks_us.values()) > sent_us,
            "every clock has passed the last event",
        )
        check(decided, sender.sent)
