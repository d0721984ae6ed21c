"""A process for tests that acts on threshold events as docs/thresholds.md says, to be killed.

python -m tests.support.threshold_reader FILE BOOTSTRAP TOPIC

It acts by writing a line [partition, offset, id] to FILE, and commits behind that. It remembers
nothing, so what it acted on twice stands there twice.
"""

import json
import os
import sys

from confluent_kafka import Consumer


def main(file: str, bootstrap: str, topic: str) -> None:
    """Follow the topic for ever."""
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}.reader",
            "session.timeout.ms": 6_000,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        assert message.error() is None, message.error()
        event = json.loads(message.value() or b"")
        line = json.dumps([message.partition(), message.offset(), event["id"]])
        os.write(out, line.encode() + b"\n")
        consumer.commit(message=message, asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
