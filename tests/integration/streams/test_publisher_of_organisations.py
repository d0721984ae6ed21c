"""What publishers of both stages make public for limits of organisations, from journals by hand."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Producer
from tests.integration.streams.letters import coordinates, letters
from tests.support.journal import Writer
from tests.support.limits import DAY_1_US, LimitJournal, crossing, limit_row, removed
from tests.support.services import create_topics, messages_of
from tests.support.told import told_states, told_thresholds
from tests.support.waiting import eventually

from meterstream.schemas.organisations import OrganisationUsed
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import AsOf, LimitHeartbeat, heartbeat_key
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import ORG_USAGE
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.publisher import Publisher, pending
from meterstream.streams.settings import PublisherSettings

pytestmark = pytest.mark.timeout(300)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 2
WAIT_S = 90
EVENTS_ID = UUID(int=5)


class Log:
    """A journal partition on the broker, written by hand."""

    def __init__(self, kafka: str, topic: str, partition: int) -> None:
        self.journal = LimitJournal(Writer(partition))
        self._producer = Producer({"bootstrap.servers": kafka})
        self._topic, self._partition, self._written = topic, partition, 0

    def step(self, *states: dict[str, Any], **told: Any) -> None:
        """Append a step, and what was not written yet before it."""
        self.journal.step(states, **told)
        for entry in self.journal.log[self._written :]:
            self._producer.produce(
                self._topic,
                entry.content,
                headers=[*entry.headers()],
                partition=self._partition,
            )
        assert self._producer.flush(30) == 0
        self._written = len(self.journal.log)


@contextmanager
def publishing(kafka: str, prefix: str) -> Iterator[None]:
    """Run publishers of both stages within the block."""
    stopped = threading.Event()
    stages: list[Any] = ["teams", "organisations"]
    threads = [
        threading.Thread(
            target=Publisher(
                PublisherSettings(kafka_bootstrap=kafka, topic_prefix=prefix, stage=stage)
            ).run,
            args=(stopped,),
        )
        for stage in stages
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def used(team_id: str, *chain: str, **values: Any) -> dict[str, Any]:
    """Return a row of TEAM_USAGE: a run in the first quarter of the day."""
    row = {"team_id": team_id, "organisations": json.dumps(chain), "quarter_start": DAY_1_US}
    return row | {"runs": 1} | values


def told_usage(kafka: str, prefix: str, count: int) -> list[tuple[str, str, int]]:
    """Return organisation, team and runs of what `org-usage` holds, once there are so many."""

    def all_of_them() -> list[tuple[str, str, int]]:
        found = []
        for message in messages_of(kafka, prefix + ORG_USAGE, committed=True):
            event = parse_event(message.value(), ORG_USAGE)
            assert isinstance(event, OrganisationUsed)
            owner = event.data.organisation_id
            assert message.key().decode() == owner
            assert message.partition() == partition_of(owner, PARTITIONS)
            assert event.source == f"/{prefix}events"
            found.append((owner, event.data.team_id, event.data.uses[0].runs))
        assert len(found) >= count, found
        return found

    return eventually(all_of_them, WAIT_S, "usage of teams is told")


def counted(partition: int, position: int) -> list[Any]:
    """Return an entry of COUNTED."""
    return [str(EVENTS_ID), 1, partition, position, position]


def as_of(one: list[Any]) -> AsOf:
    """Return an entry of COUNTED as heartbeats tell it."""
    names = "events_topic_id", "generation", "partition", "journal_offset", "events_position"
    return AsOf.model_validate(dict(zip(names, [UUID(one[0]), *one[1:]], strict=True)))


def heartbeat(kafka: str, prefix: str, partition: int, seconds: int) -> LimitHeartbeat:
    """Return the first heartbeat of organisations with a clock, once it is told."""
    clock = from_us(DAY_1_US + seconds * 1_000_000)

    def told() -> list[LimitHeartbeat]:
        beats = told_states(kafka, prefix, "organisations")[1].get(partition, [])
        return [one for one in beats if one.clock == clock]

    return eventually(told, WAIT_S, f"a heartbeat at second {seconds}")[0]


def test_both_stages(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage of teams comes to each organisation above them once, and so do crossings of its limits.

    That also holds where a transaction takes no more than one record. What is counted of teams is
    known after a restart, whatever else stands behind it.
    """
    monkeypatch.setattr(pending, "MAX_USAGE", 1)
    create_topics(kafka, prefix, PARTITIONS)
    logs = [Log(kafka, prefix + "journal", partition) for partition in range(PARTITIONS)]
    logs[0].step(
        limit_row(used=1),
        used=[used("team-1", "o-1", "o-2"), used("team-1", "o-1", "o-2", runs=-2, corrects=1)],
    )
    for number in (5, 6, 8):
        logs[1].step(used=[used("team-2", "o-2", runs=number)])
    partition = partition_of("o-1", PARTITIONS)
    log = Log(kafka, prefix + "org-journal", partition)
    mine: dict[str, Any] = {"team_id": "o-1", "subject": "organisation"}
    cause = {"source": "/x", "id": "u-1", "offset": 3, "team_id": "team-1"}
    row = crossing("blocked", organisation_id="o-1", subject="organisation", cause=cause)
    del row["team_id"]
    log.step(
        limit_row(**mine, used=1000, blocked=1),
        limit_row("l-2", **mine),
        crossings=[row],
        rejects=[["events", 0, int(Verdict.NOT_JSON), "why"]],
        counted=[counted(0, 10), counted(1, 20)],
    )
    with publishing(kafka, prefix):
        told_usage(kafka, prefix, 7)
        first = heartbeat(kafka, prefix, partition, 0)
    assert first.counted == (as_of(counted(0, 10)), as_of(counted(1, 20)))
    states, _ = told_states(kafka, prefix)
    state = states['["organisation","o-1","l-1"]']
    assert state is not None
    assert (state.organisation_id, state.state) == ("o-1", "blocked")
    (threshold,) = told_thresholds(kafka, prefix)
    assert threshold["data"]["organisation_id"] == "o-1"
    assert threshold["data"]["cause"] == cause
    ((headers, _),) = letters(kafka, prefix)
    assert coordinates(headers, prefix) == ("org-usage", partition, 0)
    # One that a sleeper tells late, and one whose transaction was aborted, must not be believed.
    write_heartbeat(kafka, prefix, first, journal_offset=0)
    write_heartbeat(kafka, prefix, first, journal_offset=9)
    logs[1].step(used=[used("team-2", "o-2", runs=7)])
    log.step(clock_us=DAY_1_US + 1_000_000)
    with publishing(kafka, prefix):
        assert heartbeat(kafka, prefix, partition, 1).counted == first.counted
        log.step(
            control=[removed(organisation_id="o-1")],
            counted=[counted(1, 21)],
            clock_us=DAY_1_US + 2_000_000,
        )
        now = heartbeat(kafka, prefix, partition, 2)
        usage = told_usage(kafka, prefix, 8)
    assert now.counted == (as_of(counted(0, 10)), as_of(counted(1, 21)))
    states, _ = told_states(kafka, prefix)
    assert states['["organisation","o-1","l-1"]'] is None
    assert len(states) == 3
    assert Counter(usage) == Counter(
        [
            ("o-1", "team-1", -2),
            ("o-1", "team-1", 1),
            ("o-2", "team-1", -2),
            ("o-2", "team-1", 1),
            ("o-2", "team-2", 5),
            ("o-2", "team-2", 6),
            ("o-2", "team-2", 7),
            ("o-2", "team-2", 8),
        ]
    )
    for owner in ("o-1", "o-2"):
        runs = [runs for told, team, runs in usage if (told, team) == (owner, "team-1")]
        assert runs == [-2, 1], "corrections come first"


def write_heartbeat(kafka: str, prefix: str, like: LimitHeartbeat, journal_offset: int) -> None:
    """Write a heartbeat that tells nothing of teams, as of another offset."""
    other = like.as_of.model_copy(update={"journal_offset": journal_offset})
    beat = like.model_copy(update={"as_of": other, "counted": ()})
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(
        prefix + "limit-states",
        beat.model_dump_json().encode(),
        heartbeat_key(like.partition, "organisations").encode(),
        partition=like.partition,
    )
    assert producer.flush(30) == 0
