"""Knows which limits block: `python limit_states.py BROKERS` prints what changes.

It needs confluent-kafka. Services in Python have LimitGate of Meterstream's SDK, which does this
and more; this shows the contract with a plain consumer.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

TOPIC = "meterstream.limit-states"


class LimitStates:
    """Where limits stand, as the records of `limit-states` tell it."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        """The last state by key: ["team", team_id, limit_id] or ["organisation", ...] as JSON."""
        self.clocks: dict[tuple[int, str], datetime] = {}
        """By partition, and whether of teams or organisations: up to when usage was counted."""
        self._as_of: dict[str, tuple[str, tuple[int, int]]] = {}

    def take(self, key: str, value: bytes | None) -> None:
        """Take a record, unless a newer one was taken for its key."""
        if value is None:
            self.states.pop(key, None)
            return
        told = json.loads(value)
        as_of = told["as_of"]
        place = as_of["generation"], as_of["journal_offset"]
        of, last = self._as_of.get(key, ("", (-1, -1)))
        if of == as_of["events_topic_id"] and place < last:
            return
        self._as_of[key] = as_of["events_topic_id"], place
        if json.loads(key)[0] == "heartbeat":
            owners = told.get("owners", "teams")
            self.clocks[told["partition"], owners] = datetime.fromisoformat(told["clock"])
        else:
            self.states[key] = told

    def blocking(self, team_id: str, *organisation_ids: str) -> list[str]:
        """Return the limits that admit nothing more of a team now.

        They are its own, and those of the organisations above it, which the catalog tells.
        """
        now = datetime.now(UTC)
        return [
            state["limit_id"]
            for state in self.states.values()
            if (state.get("team_id") == team_id or state.get("organisation_id") in organisation_ids)
            and state["state"] == "blocked"
            and ("window_end" not in state or datetime.fromisoformat(state["window_end"]) > now)
        ]

    def age_s(self) -> float:
        """Return how old the oldest knowledge is: past your bound admit or refuse, as you chose."""
        now = datetime.now(UTC)
        ages = [(now - clock).total_seconds() for clock in self.clocks.values()]
        return max(ages, default=float("inf"))


def main(brokers: str, topic: str = TOPIC) -> None:
    """Follow all partitions from their beginnings, for ever; nothing is committed."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "limit-states-example",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,  # brokers may keep a reader of committed data waiting
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    known = LimitStates()
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if error := message.error():
            raise KafkaException(error)
        key = (message.key() or b"").decode()
        known.take(key, message.value())
        if key in known.states or message.value() is None:
            state = known.states.get(key, {})
            print(key, state.get("state", "removed"), state.get("used", ""), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
