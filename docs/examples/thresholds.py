"""Acts on each threshold event once: `python thresholds.py BROKERS GROUP`.

It needs confluent-kafka. What is done with an event is committed behind it, so after a crash the
last events come again: their ids tell that they were acted upon. Here those are kept in a file, to
be written before the position is; a service keeps them where it keeps what it did.
"""

import json
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException

TOPIC = "meterstream.thresholds"


def act(event: dict[str, Any]) -> None:
    """Tell somebody. It may be called again for an event that came just before a crash."""
    data = event["data"]
    what = event["type"].removeprefix("meterstream.")
    owner = data.get("team_id") or data["organisation_id"]
    print(what, owner, data.get("limit_id", ""), data.get("used", ""), flush=True)


def main(brokers: str, group: str, topic: str = TOPIC) -> None:
    """Follow the topic for ever."""
    acted_upon = Path(f"{group}.ids")
    known = set(acted_upon.read_text().split()) if acted_upon.exists() else set()
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            # Events of a publisher that was killed before it finished are not delivered.
            "isolation.level": "read_committed",
            # Brokers may keep a reader of committed data waiting for so long.
            "fetch.wait.max.ms": 50,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            event = json.loads(message.value() or b"")
            if event["id"] not in known:
                act(event)
                with acted_upon.open("a") as file:
                    file.write(event["id"] + "\n")
                known.add(event["id"])
            consumer.commit(message=message)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
