"""`generate` and `replay` count what the broker has acknowledged, and send the same again."""

from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.command import Ran, run_command

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.topics import EVENTS

TRACE = "timestamp_ms,input_length,output_length\n" + "".join(
    f"{n * 40},{100 + n},{n % 7}\n" for n in range(300)
)
PARTITIONS = 4


class Traffic:
    """Commands that send, on topics of a test's own."""

    def __init__(self, kafka: str, prefix: str, cwd: Path) -> None:
        self._env = {"METERSTREAM_KAFKA_BOOTSTRAP": kafka, "METERSTREAM_TOPIC_PREFIX": prefix}
        self._kafka, self._topic, self._cwd = kafka, prefix + EVENTS, cwd
        made = self("topics", "--partitions", str(PARTITIONS))
        assert made.exit_code == 0, made.stderr

    def __call__(self, *arguments: str) -> Ran:
        return run_command(*arguments, env=self._env, cwd=self._cwd)

    def events(self) -> list[tuple[int, str, bytes]]:
        """Return partition, key and value of all that stands in the events topic."""
        consumer = Consumer({"bootstrap.servers": self._kafka, "group.id": "none"})
        found = []
        try:
            for number in range(PARTITIONS):
                partition = TopicPartition(self._topic, number, OFFSET_BEGINNING)
                _, end = consumer.get_watermark_offsets(partition, timeout=30)
                consumer.assign([partition])
                seen = 0
                while seen < end:
                    message = consumer.poll(30)
                    assert message is not None, "the broker stopped answering"
                    assert not message.error(), message.error()
                    key, value = message.key(), message.value()
                    assert isinstance(key, bytes)
                    assert isinstance(value, bytes)
                    found.append((number, key.decode(), value))
                    seen += 1
        finally:
            consumer.close()
        return found


@pytest.fixture
def traffic(kafka: str, prefix: str, tmp_path: Path) -> Traffic:
    """Return the sending commands on topics of this test's own."""
    (tmp_path / "trace.csv").write_text(TRACE)
    return Traffic(kafka, prefix, tmp_path)


def test_what_is_counted_is_what_stands_in_the_topic(traffic: Traffic) -> None:
    """The totals are those of the messages in the topic, each on its team's partition."""
    ran = traffic("generate", "--events", "2000", "--duplicates", "5%", "--invalid", "1%", "--json")
    assert ran.exit_code == 0, ran.stderr
    totals = ran.json["totals"]
    events = traffic.events()
    assert len(events) == totals["messages"]
    assert totals["unique_runs"] == 2000
    assert totals["messages"] == 2000 + totals["duplicates"] + totals["invalid"]
    assert totals["duplicates"] > 0
    assert totals["invalid"] > 0
    assert all(number == partition_of(team, PARTITIONS) for number, team, _ in events)


def test_a_second_replay_sends_the_same_bytes(traffic: Traffic) -> None:
    """Sent again with the same seed, each event is there twice, byte for byte."""
    first = traffic("replay", "trace.csv", "--json")
    second = traffic("replay", "trace.csv", "--json")
    assert first.exit_code == second.exit_code == 0, second.stderr
    assert first.json == second.json
    assert "as then" in second.stderr
    counted = Counter(traffic.events())
    assert len(counted) == 300
    assert set(counted.values()) == {2}


def test_another_seed_is_another_set(traffic: Traffic) -> None:
    """Another seed makes other identities of the same trace."""
    traffic("replay", "trace.csv")
    traffic("replay", "trace.csv", "--seed", "1")
    assert set(Counter(traffic.events()).values()) == {1}


def test_another_end_for_a_sent_set_is_refused(traffic: Traffic) -> None:
    """A set that was sent cannot be given another end: its runs would be conflicts."""
    traffic("replay", "trace.csv")
    ran = traffic("replay", "trace.csv", "--end-at", "2026-01-31T12:00:00Z")
    assert ran.exit_code == 2
    assert "another --seed" in ran.stderr
    assert len(traffic.events()) == 300


def test_what_a_trace_lacks_is_said(traffic: Traffic) -> None:
    """What is made up is named on stderr, and the numbers on stdout are the trace's."""
    ran = traffic("replay", "trace.csv", "--json")
    assert "it lacks agent_id, id, latency_us, model, team_id" in ran.stderr
    assert ran.json["totals"]["input_tokens"] == sum(100 + n for n in range(300))
    assert ran.json["totals"]["output_tokens"] == sum(n % 7 for n in range(300))


def test_without_a_topic_nothing_is_sent(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Where the events topic is missing, one line says which command makes it."""
    env = {"METERSTREAM_KAFKA_BOOTSTRAP": kafka, "METERSTREAM_TOPIC_PREFIX": prefix}
    ran = run_command("generate", "--seed", "1", env=env, cwd=tmp_path)
    assert ran.exit_code == 3
    assert "`meterstream topics` makes it" in ran.stderr
    topics = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=30).topics
    assert prefix + EVENTS not in topics
