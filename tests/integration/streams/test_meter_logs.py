"""What the events and journal logs may hold or lose, and what the meter makes of it."""

import json

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.metrics import metric
from tests.support.services import (
    Sender,
    check,
    create_topics,
    messages_of,
    partitions_of,
    read_decided,
    run_of,
    services,
    wait_decided,
    wait_until,
)
from tests.support.waiting import eventually

from meterstream.schemas.topics import BY_NAME

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 2
VERDICTS = "meterstream_meter_verdicts_total"


def delete_before(kafka: str, topic: str, offsets: dict[int, int]) -> None:
    """Remove the beginning of each partition's log, as retention does."""
    admin = AdminClient({"bootstrap.servers": kafka})
    asked = admin.delete_records(
        [TopicPartition(topic, p, offset) for p, offset in offsets.items()]
    )
    for deleted in asked.values():
        deleted.result(30)


def make_again(kafka: str, prefix: str, name: str) -> None:
    """Delete a topic and create it again: another topic with the same name."""
    admin = AdminClient({"bootstrap.servers": kafka})
    topic = prefix + name
    admin.delete_topics([topic])[topic].result(30)
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, 30, "it is gone")
    new = NewTopic(topic, PARTITIONS, 1, config=BY_NAME[name].config())

    def created() -> bool:
        try:
            admin.create_topics([new])[topic].result(30)
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    eventually(created, 30, "it is there again")


def test_transactions(kafka: str, prefix: str) -> None:
    """Markers and aborted events are gaps, also at the end of the log, and never counted."""
    create_topics(kafka, prefix, PARTITIONS)
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "transactional.id": prefix + "sender",
        }
    )
    producer.init_transactions(30)
    with services(kafka, prefix) as start:
        start()
        for round_ in range(6):
            producer.begin_transaction()
            for number in range(round_ * 100, round_ * 100 + 100):
                key, value = run_of(number)
                producer.produce(prefix + "events", value, key=key)
            assert producer.flush(30) == 0
            if round_ % 2:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)
        decided = wait_decided(kafka, prefix)
    assert decided.classes["counted"] == decided.runs == 300
    assert decided.classes["gap"] == 300 + 6 * PARTITIONS
    assert decided.classes["unread"] == 0


def test_retention_was_faster(kafka: str, prefix: str) -> None:
    """Offsets that retention removed before they were read are unread, and never gaps."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start()
        sender.send(1000)
        before = wait_decided(kafka, prefix)
        meter.kill()
        sender.send(1000)
        lost = {p: position + 50 for p, position in before.positions.items()}
        delete_before(kafka, prefix + "events", lost)
        meter = start()
        decided = wait_decided(kafka, prefix)
        assert decided.classes["unread"] == 50 * PARTITIONS
        assert decided.classes["gap"] == 0
        assert decided.offsets == sender.sent.records
        unread = metric(meter, "meterstream_meter_unread_offsets_total")
        assert unread == 50 * PARTITIONS
        assert "retention removed 50 offsets" in meter.log


def test_snapshots_carry_what_the_journal_lost(kafka: str, prefix: str) -> None:
    """A meter restores from its newest snapshot and the journal after it, duplicates included."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start(snapshot_seconds=1, idle_seconds=0.5)
        sender.send(2000)
        decided = wait_decided(kafka, prefix)
        check(decided, sender.sent)

        kept = wait_for_snapshots(kafka, prefix)
        for name in ("bytes_total", "offset"):
            full_name = f"meterstream_meter_snapshot_{name}"
            eventually(lambda n=full_name: metric(meter, n) > 0, 30, full_name)  # type: ignore[misc]
        meter.kill()
        delete_before(kafka, prefix + "journal", kept)
        again = start(snapshot_seconds=3600, idle_seconds=0.5).wait_ready()
        sender.resend(500)
        eventually(
            lambda: metric(again, VERDICTS, verdict="duplicate") >= 500, 60, "all were duplicates"
        )
        assert metric(again, VERDICTS, verdict="counted") == 0


def test_a_journal_made_again(kafka: str, prefix: str) -> None:
    """A journal that was deleted stops the meter, which says so; a new generation goes on."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start(snapshot_seconds=1, idle_seconds=0.5)
        sender.send(1000)
        first = wait_decided(kafka, prefix)
        check(first, sender.sent)
        wait_for_snapshots(kafka, prefix)
        meter.kill()
        make_again(kafka, prefix, "journal")
        stopped = start()
        reasons = stopped.wait_stopped(PARTITIONS)
        assert "was made again" in reasons["0"]
        assert "--new-generation" in reasons["0"]
        stopped.kill()
        before = sender.sent.runs
        sender.resend(300)
        sender.send(700)
        start(arguments=["--new-generation"]).wait_ready()
        decided = wait_decided(kafka, prefix)
        assert decided.generations == {2}
        assert decided.classes["counted"] == sender.sent.runs - before
        assert decided.classes["duplicate"] >= 300


def wait_for_snapshots(kafka: str, prefix: str) -> dict[int, int]:
    """Wait until each partition has a snapshot of all that is in its journal by now.

    Returns the journal offset of the newest snapshot of each partition.
    """
    ends = {p: end for p, (_, end) in partitions_of(kafka, prefix + "journal").items()}

    def newest() -> dict[int, int]:
        found: dict[int, int] = {}
        for message in messages_of(kafka, prefix + "snapshots"):
            if message.key().startswith(b"manifest/") and message.value() is not None:
                offset = int(message.key().removeprefix(b"manifest/"))
                found[message.partition()] = max(offset, found.get(message.partition(), -1))
        assert all(found.get(p, -1) + 1 >= end for p, end in ends.items()), (found, ends)
        return found

    return eventually(newest, 120, "snapshots of what the journal holds")


def test_a_rewritten_events_log(kafka: str, prefix: str) -> None:
    """An events topic that was made again is not taken for the one that was counted."""
    create_topics(kafka, prefix, PARTITIONS)
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start()
        sender.send(200)
        wait_decided(kafka, prefix)
        meter.kill()
        make_again(kafka, prefix, "events")
        sender.send(400)
        stopped = start()
        reasons = stopped.wait_stopped(PARTITIONS)
        assert "was made again" in reasons["0"]
        assert read_decided(kafka, prefix).runs == 200


def test_catalog_entries_enter_the_chain(kafka: str, prefix: str) -> None:
    """Every partition takes every catalog entry into its journal, once, before later events."""
    create_topics(kafka, prefix, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka})

    def register(team: str) -> None:
        event = {
            "specversion": "1.0",
            "id": team,
            "source": "/tests",
            "type": "meterstream.team.registered.v1",
            "time": "2026-01-01T00:00:00Z",
            "data": {"team_id": team, "organisation_id": "o", "name": team, "zone": "UTC"},
        }
        producer.produce(
            prefix + "catalog", json.dumps(event).encode(), key=f"team/{team}".encode()
        )
        assert producer.flush(30) == 0

    for number in range(30):
        register(f"team-{number}")
    sender = Sender(kafka, prefix)
    with services(kafka, prefix) as start:
        meter = start().wait_ready()
        sender.send(200)
        check(wait_decided(kafka, prefix), sender.sent)
        register("team-late")
        wait_until(
            kafka,
            prefix,
            lambda decided: decided.catalog_entries == 31 * PARTITIONS,
            "the late entry is in every journal",
        )
        meter.kill()
        start().wait_ready()
        sender.send(200)
        check(wait_decided(kafka, prefix), sender.sent)
        assert read_decided(kafka, prefix).catalog_entries == 31 * PARTITIONS
