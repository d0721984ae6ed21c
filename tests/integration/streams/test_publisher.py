"""The publisher: dead letters and crossings once each for readers of committed data."""

import json
import os
import runpy
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.integration.streams.letters import coordinates, letters, wait_for_letters
from tests.support.metrics import metric
from tests.support.services import (
    PUBLISHER,
    Sender,
    create_topics,
    messages_of,
    partitions_of,
    run_of,
    services,
    wait_decided,
)
from tests.support.told import decided_thresholds, set_limits, told_states, told_thresholds
from tests.support.waiting import eventually

from meterstream.schemas.thresholds import LIMIT_BLOCKED, LIMIT_RESET, LimitState
from meterstream.streams.kafka import Broker, TopicMissing, TopicsMisset
from meterstream.streams.publisher import check_topics
from meterstream.streams.settings import PublisherSettings

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 4
KILLS = int(os.environ.get("METERSTREAM_TEST_KILLS", "2"))
RUNS = 2000
"""How many are sent before each kill."""
EXAMPLES = Path(__file__).parents[3] / "docs/examples"


def limits_of_teams() -> list[dict[str, Any]]:
    """Return limits of the sender's teams and users that its runs come to, and one to remove."""
    plain = {"version": 1, "measure": "tokens", "window": "day", "amount": 180_000}
    levels = {"alert_levels_permille": [50, 100, 500, 800]}
    found: list[dict[str, Any]] = []
    for number in range(20):
        team = plain | {"team_id": f"team-{number}", "enforcement": "hard"}
        found.append(team | levels | {"limit_id": "all", "subject": "team"})
        user = {"limit_id": "one", "subject": "user", "subject_id": f"user-{number}"}
        found.append(team | user | {"window": "month", "amount": 9_000})
    return [*found, found[0] | {"limit_id": "gone"}]


def test_kills(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Publishers that are killed and replaced publish all dead letters and crossings once each."""
    create_topics(kafka, prefix, PARTITIONS)
    limits = limits_of_teams()
    set_limits(kafka, prefix, *limits)
    sender = Sender(kafka, prefix, broken_every=5)
    with services(kafka, prefix) as start:
        start(batch_max_events=100)
        publisher = start(PUBLISHER, publisher_max_records=2, publisher_interval_ms=20)
        for round_ in range(1, KILLS + 1):
            sender.send(RUNS)
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
        removed = {name: limits[-1][name] for name in ("team_id", "limit_id")}
        set_limits(kafka, prefix, removed | {"version": 2})
        eventually(lambda: None in told_states(kafka, prefix)[0].values(), 60, "one is removed")
        beats = told_states(kafka, prefix)[1]
        eventually(
            lambda: all(
                len(beats[partition]) + 2 <= len(now) and now[-1].clock > beats[partition][-1].clock
                for partition, now in told_states(kafka, prefix)[1].items()
            ),
            60,
            "heartbeats go on without traffic",
        )
        assert publisher.stop() == 0
        found = Counter(coordinates(headers, prefix) for headers, _ in letters(kafka, prefix))
        assert set(found) == decided.rejects
        assert set(found.values()) == {1}
        crossings = Counter(event["id"] for event in told_thresholds(kafka, prefix))
        assert set(crossings) == decided_thresholds(kafka, prefix)
        assert set(crossings.values()) == {1}
        check_states(kafka, prefix, limits)
    check_examples(kafka, prefix, tmp_path)


def check_states(kafka: str, prefix: str, limits: list[dict[str, Any]]) -> None:
    """Hold the last states against the sums of what was sent and the thresholds that were told."""
    states, _ = told_states(kafka, prefix)
    told = told_thresholds(kafka, prefix)
    assert len(states) == len(limits)
    for limit in limits:
        key = json.dumps(["team", limit["team_id"], limit["limit_id"]], separators=(",", ":"))
        if limit["limit_id"] == "gone":
            assert states[key] is None
            continue
        state = states[key]
        assert state is not None
        mine = [one for one in told if one["data"]["limit_id"] == limit["limit_id"]]
        mine = [one for one in mine if one["data"]["team_id"] == limit["team_id"]]
        levels = [one["data"].get("level_permille", 0) for one in mine]
        assert state.reached_permille == max(levels, default=0)
        kinds = Counter(one["type"] for one in mine)
        assert (state.state == "blocked") == (kinds[LIMIT_BLOCKED] == 1)
        assert kinds[LIMIT_RESET] == 0
        numbers = range(int(limit["team_id"].removeprefix("team-")), KILLS * RUNS, 20)
        if limit["subject"] == "user":
            user = int(limit["subject_id"].removeprefix("user-"))
            numbers = [number for number in numbers if number % 97 == user]  # type: ignore[assignment]
        assert state.used == sum(numbers)


def check_examples(kafka: str, prefix: str, directory: Path) -> None:
    """Run the documented consumers: they act on each event once, and know the last states."""
    ids = [event["id"] for event in told_thresholds(kafka, prefix)]
    group = f"{prefix}example"
    before = ids[::2]
    acted_upon = directory / f"{group}.ids"
    acted_upon.write_text("".join(f"{known}\n" for known in before))
    example = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "thresholds.py"), kafka, group, prefix + "thresholds"],
        cwd=directory,
        stdout=subprocess.PIPE,
    )
    try:
        eventually(lambda: position_of(kafka, prefix, group) == len(ids), 60, "it is through")
    finally:
        example.kill()
        said, _ = example.communicate()
    assert sorted(acted_upon.read_text().split()) == sorted(ids)
    assert len(said.splitlines()) == len(ids) - len(before)
    known: Any = runpy.run_path(str(EXAMPLES / "limit_states.py"))["LimitStates"]()
    for message in messages_of(kafka, prefix + "limit-states", committed=True):
        known.take(message.key().decode(), message.value())
    states, heartbeats = told_states(kafka, prefix)
    last = {key: state for key, state in states.items() if state is not None}
    assert {
        key: LimitState.model_validate_json(json.dumps(state))
        for key, state in known.states.items()
    } == last
    assert set(known.clocks) == {(partition, "teams") for partition in heartbeats}
    blocked = [s for s in last.values() if s.team_id == "team-1" and s.state == "blocked"]
    assert sorted(known.blocking("team-1")) == sorted(state.limit_id for state in blocked)


def position_of(kafka: str, prefix: str, group: str) -> int:
    """Return how many threshold events a group has committed, whose log has markers too."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    topic = prefix + "thresholds"
    try:
        found = consumer.committed(
            [TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=20
        )
    finally:
        consumer.close()
    upto = {one.partition: one.offset for one in found}
    messages = messages_of(kafka, topic, committed=True)
    return sum(message.offset() < upto[message.partition()] for message in messages)


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


def test_topics_that_do_not_fit(kafka: str, prefix: str) -> None:
    """A publisher does not begin without all its topics, or where partitions do not match."""
    settings = PublisherSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
    broker = Broker(settings)

    def refused() -> str:
        try:
            check_topics(broker, settings)
        except (TopicMissing, TopicsMisset) as reason:
            return str(reason)
        return ""

    assert f"limit-states, {prefix}org-usage. Create them: `meterstream topics`" in refused()
    counts = dict.fromkeys(("events", "journal", "dlq", "limit-states", "org-usage"), 2)
    counts["thresholds"] = 1
    new = [NewTopic(prefix + name, count, 1) for name, count in counts.items()]
    admin = AdminClient({"bootstrap.servers": kafka})
    for created in admin.create_topics(new).values():
        created.result(30)
    eventually(lambda: "thresholds has 1 partitions; they" in refused(), 30, "one does not fit")


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
