"""The history feed: runs as they were published, joined with what each was charged."""

import json
import time
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from tests.integration.sinks.journal_topic import (
    JournalTopic,
    create_topics,
    delete_before,
    topic_id,
)
from tests.support.journal import Writer, cell
from tests.support.waiting import eventually

from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings

NOW_US = time.time_ns() // 1_000_000 * 1000
MINUTE_US = NOW_US // 60_000_000 * 60_000_000

RunSink = Callable[[SinkSettings], Service]


@pytest.fixture
def history(settings: SinkSettings) -> SinkSettings:
    """Return settings for a sink that keeps the history alone."""
    return settings.model_copy(update={"sink_feeds": ("history",)})


@pytest.fixture
def journal(kafka: str, prefix: str) -> JournalTopic:
    """Return an empty journal of one partition, beside an empty events topic."""
    create_topics(kafka, prefix, "journal", "events")
    return JournalTopic(kafka, prefix)


def completed(number: int, **data: object) -> dict[str, object]:
    """Return a completed run of team-1 that took a second."""
    return {
        "specversion": "1.0",
        "type": "meterstream.run.completed.v1",
        "source": "/apps/chat",
        "id": f"e-{number}",
        "time": format_rfc3339(from_us(NOW_US)),
        "data": {
            "team_id": "team-1",
            "run_id": f"r-{number}",
            "operation": "agent_run",
            "status": "completed",
            "started_at": format_rfc3339(from_us(NOW_US - 1_000_000)),
            **data,
        },
    }


def started(number: int, **data: object) -> dict[str, object]:
    """Return the start of a run of team-1."""
    event = completed(number, **data)
    rest = event["data"]
    assert isinstance(rest, dict)
    rest.pop("status")
    return {**event, "id": f"s-{number}", "type": "meterstream.run.started.v1"}


def publish(bootstrap: str, topic: str, *events: object) -> None:
    """Write events to partition 0, in order."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for event in events:
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        producer.produce(topic, value=value, partition=0)
    assert producer.flush(30) == 0


def charge(offset: int, micro: int, **others: object) -> dict[str, object]:
    """Return the charge of the run at `offset`."""
    return {
        "event_offset": offset,
        "event_time": NOW_US,
        "card": "default@1",
        "credits_micro": micro,
        "run_micro": micro,
        **others,
    }


def runs(client: Client, columns: str) -> list[tuple[object, ...]]:
    """Return columns of the history, by event offset."""
    return [
        tuple(row)
        for row in client.query(
            f"SELECT {columns} FROM runs FINAL ORDER BY event_offset"
        ).result_rows
    ]


def test_runs_are_written_with_their_charges(
    kafka: str, journal: JournalTopic, history: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Counted runs stand in the history, started ones too; duplicates and the rest do not."""
    events = history.topic("events")
    publish(
        kafka,
        events,
        started(0, session_id="s-1", agent_id="a-1"),
        completed(0, session_id="s-1", agent_id="a-1", tags={"k": "v"}, quantities={"pages": 3}),
        completed(0, session_id="s-1", agent_id="a-1"),
        b"not json",
        completed(1, status="failed", error_code="timeout", time_to_first_token_us=5),
    )
    writer = Writer(events_topic_id=topic_id(kafka, events))
    counted, duplicate = Verdict.COUNTED, Verdict.DUPLICATE
    journal.write(
        writer.genesis(NOW_US),
        writer.step(
            [cell(MINUTE_US, agent_id="a-1"), cell(MINUTE_US)],
            charges=[charge(1, 10), charge(4, 7, cell=1)],
            verdicts=[counted, counted, duplicate, Verdict.NOT_JSON, counted],
        ),
    )
    service = run_sink(history)
    eventually(lambda: runs(migrated, "1") or service.failures, 60, "the history")
    assert not service.failures
    assert runs(migrated, "event_offset, event_type, run_id, status, credits_micro, card") == [
        (0, "started", "r-0", "", 0, ""),
        (1, "completed", "r-0", "completed", 10, "default@1"),
        (4, "completed", "r-1", "failed", 7, "default@1"),
    ]
    assert runs(migrated, "latency_us, first_token_us, error_code, tags, quantities") == [
        (None, None, "", {}, {}),
        (1_000_000, None, "", {"k": "v"}, {"pages": 3}),
        (1_000_000, 5, "timeout", {}, {}),
    ]
    sessions = migrated.query("SELECT agent_id, session_id FROM agent_sessions_daily FINAL")
    assert sessions.result_rows == [("a-1", "s-1")]


def test_a_run_whose_event_is_gone_is_written_from_its_charge(
    kafka: str, journal: JournalTopic, history: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """An event that is gone, or is not what was counted, loses its text, not what it cost."""
    events = history.topic("events")
    model = {"model": "m-1"}
    damaged = {**completed(2, **model), "time": format_rfc3339(from_us(NOW_US + 1))}
    publish(kafka, events, completed(0, **model), completed(1, **model), damaged)
    writer = Writer(events_topic_id=topic_id(kafka, events))
    journal.write(
        writer.genesis(NOW_US),
        writer.step(
            [cell(MINUTE_US, runs=3, **model)],
            charges=[charge(0, 3), charge(1, 4), charge(2, 5)],
        ),
    )
    delete_before(kafka, events, 1)
    service = run_sink(history)
    eventually(lambda: len(runs(migrated, "1")) == 3 or service.failures, 60, "the history")
    assert not service.failures
    assert runs(
        migrated, "event_missing, run_id, model, credits_micro, event_time = started_at"
    ) == [
        (1, "", "m-1", 3, 1),
        (0, "r-1", "m-1", 4, 0),
        (1, "", "m-1", 5, 1),
    ]


def test_events_of_a_topic_made_anew_are_not_taken_for_the_old_ones(
    kafka: str, journal: JournalTopic, history: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Offsets of a deleted topic do not point into the one that bears its name now."""
    events = history.topic("events")
    old = topic_id(kafka, events)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([events])[events].result(30)
    eventually(lambda: events not in admin.list_topics(timeout=30).topics, 30, "the topic gone")
    create_topics(kafka, history.topic_prefix, "events")
    publish(kafka, events, completed(7))
    writer = Writer(events_topic_id=old)
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE_US)], charges=[charge(0, 3)]))
    service = run_sink(history)
    eventually(lambda: runs(migrated, "1") or service.failures, 60, "the history")
    assert not service.failures
    assert runs(migrated, "event_missing, run_id") == [(1, "")]


def test_a_new_generation_may_begin_before_the_end_of_the_old_one(
    kafka: str, journal: JournalTopic, history: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Each generation's runs are read from its own range of events."""
    events = history.topic("events")
    publish(kafka, events, completed(0), completed(1))
    own_id = topic_id(kafka, events)
    writer = Writer(events_topic_id=own_id)
    first = [
        writer.genesis(NOW_US),
        writer.step([cell(MINUTE_US, runs=2)], charges=[charge(0, 1), charge(1, 2)]),
    ]
    writer.events_position = 1
    again = [writer.new_generation(NOW_US), writer.step([cell(MINUTE_US)], charges=[charge(1, 2)])]
    journal.write(*first, *again)
    service = run_sink(history)
    eventually(lambda: len(runs(migrated, "1")) == 3 or service.failures, 60, "the history")
    assert not service.failures
    found = migrated.query("SELECT generation, run_id FROM runs ORDER BY generation, event_offset")
    assert found.result_rows == [(1, "r-0"), (1, "r-1"), (2, "r-1")]
