"""What is wrong with topics is one line a fault, which names the topic and what mends it."""

from dataclasses import replace

import pytest

from meterstream.cli.topic_faults import Found, Promise, find_faults, safety_settings
from meterstream.schemas.topics import CATALOG, CONTROL, DLQ, EVENTS, JOURNAL, ORG_USAGE, TOPICS

REPAIR = "`meterstream topics --repair` sets it"


def sound(partitions: int = 4) -> dict[str, Found]:
    """Return all topics as they must be."""
    brokers_own = {"max.message.bytes": "1048588", "retention.ms": "604800000"}
    return {
        spec.name: Found(
            partitions if spec.partitioned else 1,
            1,
            brokers_own | spec.config() | safety_settings(1),
        )
        for spec in TOPICS
    }


def faults(name: str, partitions: int | None = None, **settings: str) -> list[str]:
    """Return the faults where one topic differs."""
    found = sound()
    changed = {key.replace("_", "."): value for key, value in settings.items()}
    topic = found[name]
    found[name] = replace(
        topic, partitions=partitions or topic.partitions, settings=topic.settings | changed
    )
    return [str(fault) for fault in find_faults("x.", found, 4, Promise())]


def test_sound_topics_have_no_fault() -> None:
    """Topics as they are made pass, and so do more bytes and a longer retention."""
    assert faults(EVENTS) == []
    assert faults(EVENTS, max_message_bytes="262144", retention_ms="-1") == []


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        (EVENTS, {"message_timestamp_type": "CreateTime"}, "must be LogAppendTime"),
        (EVENTS, {"max_message_bytes": "262143"}, "must be at least 262144"),
        (CONTROL, {"max_message_bytes": "131072"}, "must be at least 262144"),
        (JOURNAL, {"max_message_bytes": "1048588"}, "must be at least 16777216"),
        (EVENTS, {"cleanup_policy": "compact"}, "must be delete"),
        (CATALOG, {"cleanup_policy": "delete"}, "must be compact"),
        (DLQ, {"unclean_leader_election_enable": "true"}, "must be false"),
        (EVENTS, {"retention_ms": "3600000"}, "is 3600000 (1 hour), and must be at least 3 days"),
        (CONTROL, {"retention_ms": "604800000"}, "(7 days), and must be at least for ever"),
        (EVENTS, {"retention_ms": "345600000"}, "for 4 days, shorter than the journal (7 days)"),
        (ORG_USAGE, {"retention_ms": "345600000"}, "for 4 days, shorter than the journal (7 days)"),
    ],
)
def test_a_wrong_setting_is_one_line(name: str, settings: dict[str, str], text: str) -> None:
    """The line says what is set, what must be, and the command that sets it."""
    (line,) = faults(name, None, **settings)
    assert line.startswith(f"x.{name}: ")
    assert text in line
    assert line.endswith(REPAIR)


@pytest.mark.parametrize(
    ("name", "partitions", "text"),
    [
        (EVENTS, 2, "too few partitions: 2, and 4 are needed. They are fixed"),
        (EVENTS, 6, "too many partitions: 6, and 4 are needed. They are fixed"),
        (JOURNAL, 2, "too few partitions: 2, and 4 are needed, as many as the events topic has"),
        (CATALOG, 4, "too many partitions: 4, and 1 are needed, so that it has one order"),
    ],
)
def test_a_wrong_number_of_partitions_is_named(name: str, partitions: int, text: str) -> None:
    """Partitions cannot be repaired: the line says what can be done instead."""
    line = next(line for line in faults(name, partitions) if line.startswith(f"x.{name}: "))
    assert text in line
    assert "delete" in line
    assert REPAIR not in line
