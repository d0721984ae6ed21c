"""What the publisher makes public of limits, and what the journal says that it should."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer
from tests.support.services import messages_of

from meterstream.schemas.control import LIMIT_REMOVED, LIMIT_SET
from meterstream.schemas.journal import Chain, Section, unpack_sections
from meterstream.schemas.thresholds import LimitHeartbeat, LimitState, Owners
from meterstream.streams.journal.reader import JournalRecord, take_valid
from meterstream.streams.publisher.crossings import threshold_records


def set_limits(kafka: str, prefix: str, *limits: dict[str, Any]) -> None:
    """Write versions of limits to the control topic; one without an amount is removed."""
    producer = Producer({"bootstrap.servers": kafka, "partitioner": "murmur2_random"})
    for number, limit in enumerate(limits):
        event = {
            "specversion": "1.0",
            "type": LIMIT_SET if "amount" in limit else LIMIT_REMOVED,
            "source": "/tests",
            "id": f"{limit['team_id']}/{limit['limit_id']}/{limit['version']}/{number}",
            "time": "2026-01-01T00:00:00Z",
            "data": limit,
        }
        producer.produce(prefix + "control", json.dumps(event).encode(), key=limit["team_id"])
    assert producer.flush(30) == 0


def valid_records(kafka: str, prefix: str) -> Iterator[tuple[int, JournalRecord]]:
    """Yield partition and record of each valid record of the journal."""
    chains: dict[int, Chain] = defaultdict(Chain)
    for message in messages_of(kafka, prefix + "journal"):
        record = take_valid(chains[message.partition()], message)
        if record is not None:
            yield message.partition(), record


def decided_thresholds(kafka: str, prefix: str) -> set[str]:
    """Return the ids of all crossings that valid records tell."""
    ids: set[str] = set()
    for partition, record in valid_records(kafka, prefix):
        section = unpack_sections(record.value).get(Section.CROSSINGS, b"[]")
        for told in threshold_records(section, record, partition, "/any"):
            ids.add(json.loads(told.value)["id"])
    return ids


def told_thresholds(kafka: str, prefix: str) -> list[dict[str, Any]]:
    """Return the threshold events that readers of committed data see."""
    topic = prefix + "thresholds"
    return [json.loads(message.value()) for message in messages_of(kafka, topic, committed=True)]


def told_states(
    kafka: str, prefix: str, owners: Owners = "teams"
) -> tuple[dict[str, LimitState | None], dict[int, list[LimitHeartbeat]]]:
    """Return what readers of committed data see of limit-states.

    The last state by key, None after a tombstone, and all heartbeats of `owners` by partition.
    Behind the states of a transaction its heartbeat must stand, whose clock their windows hold.
    """
    states: dict[str, LimitState | None] = {}
    heartbeats: dict[int, list[LimitHeartbeat]] = defaultdict(list)
    open_: dict[tuple[int, Owners], list[LimitState]] = defaultdict(list)
    for message in messages_of(kafka, prefix + "limit-states", committed=True):
        key, value, partition = message.key().decode(), message.value(), message.partition()
        if json.loads(key)[0] == "heartbeat":
            heartbeat = LimitHeartbeat.model_validate_json(value)
            if heartbeat.owners == owners:
                heartbeats[partition].append(heartbeat)
            for one in open_.pop((partition, heartbeat.owners), ()):
                told = heartbeat.as_of.generation, heartbeat.as_of.journal_offset
                assert (one.as_of.generation, one.as_of.journal_offset) <= told, "it tells of them"
                if (
                    one.window_end is not None
                ):  # balances begin with each grant, one after the other
                    assert one.window_start <= heartbeat.clock < one.window_end, "it has begun"
            continue
        state = None if value is None else LimitState.model_validate_json(value)
        states[key] = state
        if state is not None:
            assert state.as_of.partition == partition
            of: Owners = "teams" if state.organisation_id is None else "organisations"
            open_[partition, of].append(state)
    assert not open_, "every transaction with states ends with a heartbeat"
    return states, heartbeats
