"""The publisher: each dead letter once for readers of committed data, whatever happens."""

import signal
from collections import Counter

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.integration.streams.letters import coordinates, letters, wait_for_letters
from tests.support.metrics import metric
from tests.support.services import (
    PUBLISHER,
    Sender,
    create_topics,
    partitions_of,
    run_of,
    services,
    wait_decided,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 4


def test_kills(kafka: str, prefix: str) -> None:
    """Publishers that are killed and replaced publish every dead letter, and none of them twice."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix, broken_every=5)
    with services(kafka, prefix) as start:
        start(batch_max_events=100)
        publisher = start(PUBLISHER, publisher_max_records=2, publisher_interval_ms=20)
        for round_ in range(1, 4):
            sender.send(2000)
            eventually(
                lambda n=round_: len(letters(kafka, prefix)) > (n - 1) * 400 + 20,  # type: ignore[misc]
                90,
                "the publisher is in the middle of it",
            )
            publisher.kill()
            publisher = start(PUBLISHER, publisher_max_records=2, publisher_interval_ms=20)
        decided = wait_decided(kafka, prefix)
        assert len(decided.rejects) == sender.sent.broken
        wait_for_letters(kafka, prefix, sender.sent.broken)
        assert publisher.stop() == 0
        found = Counter(coordinates(headers, prefix) for headers, _ in letters(kafka, prefix))
        assert set(found) == decided.rejects
        assert set(found.values()) == {1}


def test_a_paused_publisher_wakes_up(kafka: str, prefix: str) -> None:
    """A publisher that sleeps past its session and wakes up publishes nothing a second time."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix, broken_every=5)
    options = {"publisher_max_records": 2, "publisher_interval_ms": 20}
    with services(kafka, prefix) as start:
        start(batch_max_events=100)
        sleeper = start(PUBLISHER, **options).wait_ready()
        sender.send(2000)
        wait_for_letters(kafka, prefix, 20)
        sleeper.signal(signal.SIGSTOP)
        other = start(PUBLISHER, **options)
        sender.send(2000)
        wait_for_letters(kafka, prefix, sender.sent.broken)
        sleeper.signal(signal.SIGCONT)
        sender.send(2000)
        decided = wait_decided(kafka, prefix)
        wait_for_letters(kafka, prefix, sender.sent.broken)
        found = Counter(coordinates(headers, prefix) for headers, _ in letters(kafka, prefix))
        assert set(found) == decided.rejects
        assert set(found.values()) == {1}
        assert (sleeper.stop(), other.stop()) == (0, 0), sleeper.log


def test_entries_that_are_refused(kafka: str, prefix: str) -> None:
    """Catalog and control entries that are refused become dead letters too, once each."""
    create_topics(kafka, prefix, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(prefix + "catalog", b"nonsense", key=b"team/x")
    producer.produce(prefix + "control", b"{}", key=b"team-1", partition=2)
    assert producer.flush(30) == 0
    with services(kafka, prefix) as start:
        start()
        start(PUBLISHER)
        found = wait_for_letters(kafka, prefix, 2)
    assert sorted(coordinates(headers, prefix) for headers, _ in found) == [
        ("catalog", 0, 0),
        ("control", 2, 0),
    ]
    assert {message.value() for _, message in found} == {b"nonsense", b"{}"}


def test_what_a_letter_says(kafka: str, prefix: str) -> None:
    """A dead letter holds the raw bytes and key, and says why, and where it stood."""
    create_topics(kafka, prefix, PARTITIONS)
    large = {"message.max.bytes": 4_000_000, "compression.type": "zstd"}
    producer = Producer({"bootstrap.servers": kafka, **large})
    _, wrong = run_of(1)
    sent: list[tuple[bytes | None, bytes | None, int]] = [
        (b"team-1", b"{", 0),
        (b"k", b"\xff\xfe", 1),
        (None, b"", 2),
        (b"null", None, 3),
        (b"team-1", b" " * 3_000_000, 3),
        *((b"team-1", wrong, partition) for partition in range(PARTITIONS)),
    ]
    for key, value, partition in sent:
        producer.produce(prefix + "events", value, key=key, partition=partition)
    assert producer.flush(30) == 0
    with services(kafka, prefix) as start:
        start()
        start(PUBLISHER)
        wait_decided(kafka, prefix)
        # One of the four partitions is the right one for the team.
        found = wait_for_letters(kafka, prefix, len(sent) - 1)
    reasons = Counter(headers["reason"] for headers, _ in found)
    assert reasons == {
        "not_json": 1,
        "not_utf8": 1,
        "empty": 1,
        "null_value": 1,
        "too_large": 1,
        "wrong_partition": 3,
    }
    for headers, message in found:
        partition, offset = int(headers["partition"]), int(headers["offset"])
        assert message.partition() == partition
        key, value = [(k, v) for k, v, p in sent if p == partition][offset]
        if headers["reason"] == "too_large":
            assert (headers["missing"], headers["bytes"]) == ("too_large", "3000000")
            assert (message.key(), message.value()) == (key, b"")
            continue
        assert (message.key(), message.value()) == (key, value)
        assert headers["detail"] or headers["reason"] in ("empty", "null_value")
        if headers["reason"] == "wrong_partition":
            assert headers["team_id"] == "team-1"
            assert headers["event_type"] == "meterstream.run.completed.v1"
        assert headers.get("missing") == ("null_value" if value is None else None)


def test_retention_was_faster(kafka: str, prefix: str) -> None:
    """A dead letter whose bytes are gone is published without them, and says so."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix, broken_every=10)
    with services(kafka, prefix) as start:
        start()
        sender.send(200)
        wait_decided(kafka, prefix)
        ends = partitions_of(kafka, prefix + "events")
        gone = [
            TopicPartition(prefix + "events", partition, end)
            for partition, (_, end) in ends.items()
            if end
        ]
        admin = AdminClient({"bootstrap.servers": kafka})
        for deleted in admin.delete_records(gone).values():
            deleted.result(30)
        publisher = start(PUBLISHER)
        found = wait_for_letters(kafka, prefix, sender.sent.broken)
        assert {headers["missing"] for headers, _ in found} == {"retention"}
        assert {message.value() for _, message in found} == {b""}
        name = "meterstream_publisher_lost_dead_letters_total"
        eventually(lambda: metric(publisher, name) == sender.sent.broken, 30, name)


def test_a_chain_whose_beginning_is_gone(kafka: str, prefix: str) -> None:
    """A publisher that cannot prove what is valid publishes nothing, and says so."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix, broken_every=2)
    with services(kafka, prefix) as start:
        start(idle_seconds=1)
        sender.send(200)
        wait_decided(kafka, prefix)
        admin = AdminClient({"bootstrap.servers": kafka})
        gone = [TopicPartition(prefix + "journal", partition, 1) for partition in range(PARTITIONS)]
        for deleted in admin.delete_records(gone).values():
            deleted.result(30)
        publisher = start(PUBLISHER)
        reasons = publisher.wait_stopped(PARTITIONS)
        assert "the chain's beginning is gone" in reasons["0"]
        assert letters(kafka, prefix) == []
