"""What the tests of the producers share: events, settings, and a broker that is not there."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.waiting import eventually

from meterstream.producers import PublisherSettings

PARTITIONS = 4


def run_event(number: int, team_id: str = "team-1", **data: Any) -> dict[str, Any]:
    """Return the CloudEvent of a completed run; its id and source are left to the publisher."""
    return {
        "specversion": "1.0",
        "type": "meterstream.run.completed.v1",
        "time": "2026-01-31T12:00:01Z",
        "data": {
            "team_id": team_id,
            "run_id": f"run-{number}",
            "operation": "agent_run",
            "started_at": "2026-01-31T12:00:00Z",
            "status": "completed",
            "input_tokens": number,
            **data,
        },
    }


def make_settings(spool_dir: Path, bootstrap: str, **values: Any) -> PublisherSettings:
    """Return settings with short waits at the end, and time enough on a busy machine."""
    return PublisherSettings.make(
        **{
            "kafka_bootstrap": bootstrap,
            "spool_dir": spool_dir,
            "source": "/tests",
            "publish_timeout_ms": 20_000,
            "close_timeout_ms": 0,
            **values,
        }
    )


@contextmanager
def absent_broker() -> Iterator[str]:
    """Yield an address at which nobody answers, kept from others for as long as it is used."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the operating system refuse to let files grow past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def create_events_topic(bootstrap: str, prefix: str, **config: str) -> str:
    """Create the events topic under `prefix`; return its name."""
    topic = f"{prefix}events"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(
        topic, PARTITIONS, 1, config={"message.timestamp.type": "LogAppendTime"} | config
    )
    admin.create_topics([new])[topic].result(30)
    return topic


def read_topic(bootstrap: str, topic: str, timeout_s: float = 30) -> list[tuple[int, bytes, bytes]]:
    """Return (partition, key, value) of every record that is in the topic now, by partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests"})
    found: list[tuple[int, bytes, bytes]] = []
    try:
        for partition in range(PARTITIONS):
            low, high = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=timeout_s
            )
            if low == high:
                continue
            consumer.assign([TopicPartition(topic, partition, low)])

            def complete(high: int = high, partition: int = partition) -> bool:
                found.extend(
                    (partition, message.key() or b"", message.value() or b"")
                    for message in consumer.consume(1000, 0.2)
                    if message.error() is None
                )
                position = consumer.position([TopicPartition(topic, partition)])[0].offset
                return bool(position >= high)

            eventually(complete, timeout_s, f"all of {topic} [{partition}]")
    finally:
        consumer.close()
    return found
