"""Sends refused events once more, to the partition where their team's events belong."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Delivered

from meterstream.cli.connection import Connection
from meterstream.cli.errors import CheckFailed
from meterstream.schemas import deadletters as headers
from meterstream.schemas.topics import EVENTS

from .letters import Letter

FLUSH_TIMEOUT_S: Final = 60.0
POLL_EVERY: Final = 500


@dataclass(slots=True)
class Resent:
    """What became of the letters: sent by reason, and left with the cause."""

    sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)


def resend(
    connection: Connection, letters: Iterable[Letter], reasons: Iterable[str], *, dry: bool = False
) -> Resent:
    """Send each letter of these reasons to the events topic, keyed by its team.

    The identity stays as it is, so an event that was counted meanwhile, or is sent twice, counts
    once. Raises CheckFailed if the broker does not acknowledge all of them.
    """
    wanted, topic, outcome = set(reasons), connection.topic(EVENTS), Resent()
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Delivered) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "acks": "all",
            "enable.idempotence": "true",
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            **connection.kafka(),
        },
        logger=logging.getLogger("meterstream.kafka"),
    )
    for number, letter in enumerate(letters):
        if letter.reason not in wanted:
            outcome.left["another reason"] += 1
            continue
        if letter.headers.get(headers.TOPIC) != topic:
            outcome.left["not from the events topic"] += 1
            continue
        team = team_of(letter.value)
        if team is None:
            outcome.left["names no team"] += 1
            continue
        outcome.sent[letter.reason] += 1
        if not dry:
            _produce(producer, topic, team, letter.value, on_delivery)
            if number % POLL_EVERY == 0:
                producer.poll(0)
    left = producer.flush(FLUSH_TIMEOUT_S)
    if left or failures:
        reason = failures[0].str() if failures else f"no answer within {FLUSH_TIMEOUT_S:.0f} s"
        raise CheckFailed(
            f"{left + len(failures)} events were not acknowledged ({reason}): replay once more, "
            "those that were count once"
        )
    return outcome


def team_of(value: bytes) -> str | None:
    """Return the team that an event's bytes name, or None where they name none."""
    try:
        team = json.loads(value)["data"]["team_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return team if isinstance(team, str) and team else None


def _produce(
    producer: Producer,
    topic: str,
    team: str,
    value: bytes,
    on_delivery: Callable[[KafkaError | None, Delivered], None],
) -> None:
    while True:
        try:
            producer.produce(topic, key=team, value=value, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)
        else:
            return
