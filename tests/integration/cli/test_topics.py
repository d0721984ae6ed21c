"""`meterstream topics` makes what is missing and says what is wrong, on a real broker."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.command import Ran, run_command

from meterstream.schemas.topics import EVENTS, JOURNAL, TOPICS


class Topics:
    """The command on one prefix."""

    def __init__(self, kafka: str, prefix: str, cwd: Path) -> None:
        self.admin = AdminClient({"bootstrap.servers": kafka})
        self.prefix = prefix
        self._env = {"METERSTREAM_KAFKA_BOOTSTRAP": kafka, "METERSTREAM_TOPIC_PREFIX": prefix}
        self._cwd = cwd

    def __call__(self, *arguments: str) -> Ran:
        return run_command("topics", *arguments, env=self._env, cwd=self._cwd)

    def make(self, name: str, partitions: int, **config: str) -> None:
        """Create one topic by hand."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(self.prefix + name, partitions, 1, config=settings)
        self.admin.create_topics([new])[self.prefix + name].result(30)


@pytest.fixture
def topics(kafka: str, prefix: str, tmp_path: Path) -> Topics:
    """Return the command on a prefix of this test's own."""
    return Topics(kafka, prefix, tmp_path)


def test_all_topics_are_made_once(topics: Topics) -> None:
    """The first call makes every topic as it must be, and the second finds nothing to do."""
    first, second = topics("--partitions", "3", "--json"), topics("--json")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert len(first.json["created"]) == len(TOPICS)
    assert second.json["created"] == []
    events = second.json["topics"][topics.prefix + EVENTS]
    assert events["partitions"] == 3
    assert events["settings"]["message.timestamp.type"] == "LogAppendTime"


def test_check_creates_nothing(topics: Topics) -> None:
    """With --check what is missing is said, exit code 1, and still missing afterwards."""
    checked = topics("--check")
    assert checked.exit_code == 1
    assert checked.stderr.count("is missing") == len(TOPICS)
    assert topics("--check").stderr == checked.stderr


def test_too_few_partitions_are_named(topics: Topics) -> None:
    """A topic with too few partitions is one clear line, and nothing is made that fits neither."""
    topics.make(EVENTS, 1, message_timestamp_type="LogAppendTime", retention_ms="604800000")
    ran = topics("--partitions", "4", "--repair")
    assert ran.exit_code == 1
    (line,) = ran.stderr.splitlines()
    assert f"{topics.prefix}{EVENTS}: too few partitions: 1, and 4 are needed" in line
    assert "go on with `meterstream topics --partitions 1`" in line
    made = [name for name in topics.admin.list_topics().topics if name.startswith(topics.prefix)]
    assert made == [topics.prefix + EVENTS]


def test_wrong_settings_are_named_and_repaired(topics: Topics) -> None:
    """What is set wrongly is a line each, with what mends it; --repair sets it right."""
    topics.make(
        EVENTS,
        2,
        message_timestamp_type="CreateTime",
        retention_ms="3600000",
        max_message_bytes="131072",
    )
    ran = topics()
    assert ran.exit_code == 1
    assert "message.timestamp.type is CreateTime, and must be LogAppendTime" in ran.stderr
    assert "retention.ms is 3600000 (1 hour), and must be at least 3 days" in ran.stderr
    assert "max.message.bytes is 131072, and must be at least 262144" in ran.stderr
    assert ran.stderr.count("`meterstream topics --repair` sets it") == 3
    repaired = topics("--repair")
    assert (repaired.exit_code, repaired.stderr.count("repaired ")) == (0, 3)
    assert topics("--check").exit_code == 0


def test_events_are_kept_as_long_as_the_journal(topics: Topics) -> None:
    """Events that are dropped before the journal's records are a fault, and mended likewise."""
    topics.make(EVENTS, 2, message_timestamp_type="LogAppendTime", retention_ms="345600000")
    ran = topics()
    assert ran.exit_code == 1
    assert "shorter than the journal" in ran.stderr
    assert topics("--repair").exit_code == 0
    settings = topics("--json").json["topics"]
    kept = [
        settings[topics.prefix + name]["settings"]["retention.ms"] for name in (EVENTS, JOURNAL)
    ]
    assert kept[0] == kept[1]


def test_no_broker_is_one_line(tmp_path: Path) -> None:
    """Where no broker answers, one line says where and what to do, with exit code 3."""
    env = {"METERSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    ran = run_command("topics", env=env, cwd=tmp_path)
    assert ran.exit_code == 3
    assert "no Kafka broker answers at 127.0.0.1:1" in ran.stderr
    assert "meterstream stack" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_stack_is_one_line(tmp_path: Path) -> None:
    """Without a stack and without an address the command says how to get either."""
    ran = run_command("topics", env={}, cwd=tmp_path)
    assert ran.exit_code == 3
    (line,) = ran.stderr.splitlines()
    assert "no stack runs in .meterstream" in line
    assert "METERSTREAM_KAFKA_BOOTSTRAP" in line
