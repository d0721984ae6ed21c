"""Where a destination begins to read, as a real broker keeps it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support.notices import Thresholds, threshold_event
from tests.support.waiting import eventually

from meterstream.notifier.errors import KafkaUnavailable
from meterstream.notifier.kafka import topic_id
from meterstream.notifier.places import Places
from meterstream.notifier.settings import load_settings
from meterstream.schemas.topics import THRESHOLDS


@contextmanager
def places(kafka: str, prefix: str, *, from_beginning: bool = False) -> Iterator[Places]:
    """Yield the places of a process that has just started."""
    settings = load_settings(kafka_bootstrap=kafka, topic_prefix=prefix)
    consumer = Consumer(settings.client(group_id=settings.group("hook")))
    try:
        yield Places(
            consumer,
            prefix + THRESHOLDS,
            lambda: topic_id(settings, THRESHOLDS),
            name="hook",
            from_beginning=from_beginning,
            stop=threading.Event(),
        )
    finally:
        consumer.close()


def start(found: Places) -> int:
    """Return where partition 0 is read from, once the broker tells."""

    def told() -> list[TopicPartition]:
        try:
            return found.find([0])
        except (KafkaException, KafkaUnavailable) as error:
            raise AssertionError(str(error)) from error

    return eventually(told, 60, "the broker tells")[0].offset


def test_where_it_begins(kafka: str, prefix: str) -> None:
    """At the end at first, then where it was; behind what retention took; anew in a new topic."""
    thresholds = Thresholds(kafka, prefix)
    thresholds.write(*(threshold_event() for _ in range(5)))
    with places(kafka, prefix, from_beginning=True) as first:
        assert start(first) == 0, "nothing of it is kept"
    with places(kafka, prefix) as first:
        assert start(first) == 5
        assert first.keep()
    thresholds.write(*(threshold_event() for _ in range(7)))
    with places(kafka, prefix) as again:
        assert start(again) == 5, "what came meanwhile is not missed"
        again.passed(0, 5)
        again.passed(0, 6)
        assert again.next_offset(0) == 7
        assert start(again) == 7, "what this process did is not done again, kept or not"
        assert again.keep()
    with places(kafka, prefix, from_beginning=True) as later:
        assert start(later) == 7
        assert later.missed == 0
    admin = AdminClient({"bootstrap.servers": kafka})
    topic = prefix + THRESHOLDS
    admin.delete_records([TopicPartition(topic, 0, 10)])[TopicPartition(topic, 0, 10)].result(30)
    with places(kafka, prefix) as behind:
        assert start(behind) == 10
        assert behind.missed == 3
        assert behind.keep()
        admin.delete_topics([topic])[topic].result(30)
        eventually(lambda: topic not in admin.list_topics(timeout=10).topics, 30, "it is gone")
        thresholds = Thresholds(kafka, prefix)
        thresholds.write(*(threshold_event() for _ in range(12)))
        assert start(behind) == 0, "offsets of another topic say nothing"
