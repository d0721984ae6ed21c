"""Bad input on a real broker: one letter each, one reason, and no harm to its neighbours."""

import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.integration.streams.letters import coordinates, wait_for_letters
from tests.support.craft import DAY, HOUR, MINUTE, Json, encode, run
from tests.support.mutations import MUTATIONS, RUN_MUTATIONS, Mutation
from tests.support.services import PUBLISHER, create_topics, services, wait_decided

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.verdicts import Verdict, ledger_class, reason_name

pytestmark = pytest.mark.timeout(420)
"""Time for a busy machine; each wait has its own, shorter limit."""

PARTITIONS = 4
TEAM = "team"
HOME = partition_of(TEAM, PARTITIONS)
ELSEWHERE = (HOME + 1) % PARTITIONS


@dataclass(frozen=True)
class Bad:
    """A record that is refused: where it is sent, why, and the field that the letter names."""

    value: bytes | None
    verdict: Verdict
    partition: int = HOME
    path: str = ""


def broken(name: str, mutation: Mutation, now_us: int) -> Bad:
    """Return a run that is broken in one way."""
    event = run(f"broken {name}", now_us, team_id=TEAM, user_id="u", input_tokens=1)
    return Bad(mutation.apply(event), mutation.verdict, HOME, mutation.path)


def misplaced(now_us: int) -> list[Bad]:
    """Return runs that are well formed, and wrong where or when they stand."""

    def at(event_id: str, at_us: int) -> bytes | None:
        return encode(run(event_id, at_us, team_id=TEAM))

    return [
        Bad(at("elsewhere", now_us), Verdict.WRONG_PARTITION, ELSEWHERE),
        Bad(at("ahead", now_us + HOUR), Verdict.TIME_AHEAD),
        Bad(at("far ahead", now_us + 3_000 * DAY), Verdict.TIME_AHEAD),
        Bad(at("old", now_us - 30 * DAY), Verdict.TOO_LATE),
        Bad(at("very old", now_us - 20_000 * DAY), Verdict.TOO_LATE),
    ]


def conflicts(neighbour: Json) -> list[Bad]:
    """Return events of an identity that was counted before, each with other content."""
    found = []
    for name, value in (("input_tokens", 2), ("user_id", "другой 😀"), ("status", "failed")):
        event: dict[str, Any] = deepcopy(neighbour)
        event["data"][name] = value
        found.append(Bad(encode(event), Verdict.CONFLICT))
    return found


def test_each_fault_alone_becomes_a_letter(kafka: str, prefix: str) -> None:
    """Every way to be wrong: its bytes, place and reason are in the queue, and all else counts."""
    now_us = time.time_ns() // 1000 - MINUTE
    mutations = MUTATIONS | RUN_MUTATIONS
    first = run("neighbour 0", now_us, team_id=TEAM, input_tokens=1)
    bad = [broken(name, mutation, now_us) for name, mutation in mutations.items()]
    bad += misplaced(now_us) + conflicts(first)
    create_topics(kafka, prefix, PARTITIONS)
    landed: dict[tuple[int, int], Bad] = {}
    producer = Producer({"bootstrap.servers": kafka, "message.max.bytes": 4_000_000})

    def send(value: bytes | None, partition: int, record: Bad | None = None) -> None:
        def delivered(error: object, message: Any) -> None:
            assert error is None, error
            if record is not None:
                landed[message.partition(), message.offset()] = record

        producer.produce(prefix + "events", value, TEAM.encode(), partition, on_delivery=delivered)
        producer.poll(0)

    send(encode(first), HOME)
    for number, record in enumerate(bad, 1):
        send(record.value, record.partition, record)
        send(encode(run(f"neighbour {number}", now_us, team_id=TEAM, input_tokens=1)), HOME)
    assert producer.flush(60) == 0
    with services(kafka, prefix) as start:
        start()
        start(PUBLISHER)
        decided = wait_decided(kafka, prefix)
        letters = wait_for_letters(kafka, prefix, len(bad))
    assert len(letters) == len(bad) == len(landed)
    for headers, message in letters:
        topic, partition, offset = coordinates(headers, prefix)
        record = landed.pop((partition, offset))
        assert topic == "events"
        assert headers["reason"] == reason_name(record.verdict), record
        assert record.path in headers.get("detail", ""), (headers, record)
        assert message.key() == TEAM.encode()
        assert message.value() == record.value
    assert not landed
    expected = Counter(ledger_class(record.verdict) for record in bad)
    assert decided.classes == expected | Counter(counted=len(bad) + 1)
    assert (decided.runs, decided.tokens) == (len(bad) + 1, len(bad) + 1)
