"""The publishers on a real broker: what is accepted arrives, in order, and is told of."""

import asyncio
import json
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.support.publishing import (
    PARTITIONS,
    create_events_topic,
    make_settings,
    read_topic,
    run_event,
)
from tests.support.waiting import eventually

from meterstream.producers import (
    AsyncPublisher,
    Delivery,
    DeliveryState,
    DeliveryTimeout,
    Durability,
    EventRefused,
    Publisher,
    UnknownTopic,
)
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event

TIMEOUT_S = 60


@pytest.mark.parametrize("durability", ["queued", "written", "synced"])
def test_events_arrive_in_order_where_the_meter_looks(
    kafka: str, prefix: str, tmp_path: Path, durability: Durability
) -> None:
    """Each event stands once on the partition of its team, readable, in the team's order."""
    topic = create_events_topic(kafka, prefix)
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix, durability=durability)
    with Publisher(settings) as publisher:
        for number in range(400):
            publisher.publish(run_event(number, f"team-{number % 200}"))
        publisher.flush(TIMEOUT_S)
        assert publisher.remaining == 0
    by_team = defaultdict(list)
    for partition, key, value in read_topic(kafka, topic):
        team_id = key.decode()
        assert partition == partition_of(team_id, PARTITIONS)
        parse_event(value)
        by_team[team_id].append(json.loads(value)["data"]["input_tokens"])
    assert by_team == {f"team-{team}": [team, team + 200] for team in range(200)}
    assert list(tmp_path.iterdir()) == []


def test_close_waits_for_what_was_accepted(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Closing drains the queue and the spool, and leaves nothing behind."""
    topic = create_events_topic(kafka, prefix)
    publisher = Publisher(make_settings(tmp_path, kafka, topic_prefix=prefix, durability="queued"))
    for number in range(5000):
        publisher.publish(run_event(number, f"team-{number % 7}"))
    assert publisher.close(TIMEOUT_S) == 0
    assert len(read_topic(kafka, topic)) == 5000
    assert list(tmp_path.iterdir()) == []


def test_a_delivery_is_told_to_whoever_asks(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The receipt, a callback given early and one given late all learn of the acknowledgement."""
    create_events_topic(kafka, prefix)
    told: list[str] = []

    def callback(delivery: Delivery) -> None:
        told.append(f"{delivery.event_id} {delivery.state}")
        raise RuntimeError("of the service's own, and only logged")

    registry = CollectorRegistry()
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix)
    with Publisher(settings, registry=registry) as publisher:
        publisher.check()
        delivery = publisher.publish(run_event(1), on_delivery=callback)
        delivery.wait(TIMEOUT_S)
        assert delivery.state is DeliveryState.ACKNOWLEDGED
        delivery.add_callback(callback)
        eventually(lambda: len(told) == 2, TIMEOUT_S, "both callbacks are called")
        publisher.publish(run_event(2)).wait(TIMEOUT_S)
    assert told == ["completed:run-1 acknowledged"] * 2
    labels = {"publisher": "meterstream"}
    assert registry.get_sample_value("meterstream_producer_acknowledged_total", labels) == 2
    assert registry.get_sample_value("meterstream_producer_delivery_seconds_count", labels) == 2
    assert registry.get_sample_value("meterstream_producer_spooled_events", labels) == 0


def test_the_asyncio_publisher_delivers(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Events published by many tasks arrive, and receipts and flush learn of it."""
    topic = create_events_topic(kafka, prefix)

    async def scenario() -> None:
        settings = make_settings(tmp_path, kafka, topic_prefix=prefix)
        async with AsyncPublisher(settings) as publisher:
            await publisher.check()
            deliveries = await asyncio.gather(
                *(publisher.publish(run_event(number)) for number in range(500))
            )
            await asyncio.gather(*(delivery.wait(TIMEOUT_S) for delivery in deliveries))
            await publisher.publish(run_event(500))
            await publisher.flush(TIMEOUT_S)
            assert publisher.remaining == 0

    asyncio.run(scenario())
    assert len(read_topic(kafka, topic)) == 501


def test_a_message_too_large_is_set_aside_and_its_neighbours_arrive(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """What the topic never takes is told, kept in a file, and holds nobody up."""
    topic = create_events_topic(kafka, prefix, **{"max.message.bytes": "2000"})
    told: list[Exception] = []
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix, compression="none")
    with Publisher(settings, on_error=told.append) as publisher:
        for number in range(3):
            publisher.publish(run_event(number))
        large = publisher.publish(run_event(3, input="x" * 3000))
        for number in range(4, 50):
            publisher.publish(run_event(number))
        with pytest.raises(EventRefused, match=r"raise max\.message\.bytes"):
            large.wait(TIMEOUT_S)
        assert large.state is DeliveryState.REFUSED
        publisher.flush(TIMEOUT_S)
    assert [type(error) for error in told] == [EventRefused]
    arrived = {
        json.loads(value)["data"]["input_tokens"] for _, _, value in read_topic(kafka, topic)
    }
    assert arrived == set(range(50)) - {3}
    [kept] = tmp_path.rglob("refused.jsonl")
    line = json.loads(kept.read_text())
    assert json.loads(line["event"])["id"] == "completed:run-3"


def test_a_topic_that_is_made_later_gets_all_events(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Without its topic a publisher says so and keeps what it accepts; then everything arrives."""
    settings = make_settings(
        tmp_path, kafka, topic_prefix=prefix, kafka={"topic.metadata.propagation.max.ms": 500}
    )
    told: list[Exception] = []
    with Publisher(settings, on_error=told.append) as publisher:
        with pytest.raises(UnknownTopic, match="meterstream topics"):
            publisher.check()
        for number in range(100):
            publisher.publish(run_event(number))
        eventually(lambda: told, TIMEOUT_S, "the callback is told")
        with pytest.raises(DeliveryTimeout, match="UnknownTopic"):
            publisher.flush(0.1)
        topic = create_events_topic(kafka, prefix)
        publisher.flush(TIMEOUT_S)
    assert {type(error) for error in told} == {UnknownTopic}
    numbers = [
        json.loads(value)["data"]["input_tokens"] for _, _, value in read_topic(kafka, topic)
    ]
    assert list(dict.fromkeys(numbers)) == list(range(100))


def test_what_was_not_foreseen_costs_nothing(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that trips over a bug, and a client that does not answer, are told and go on."""
    topic = create_events_topic(kafka, prefix)
    told: list[Exception] = []
    with Publisher(
        make_settings(tmp_path, kafka, topic_prefix=prefix), on_error=told.append
    ) as publisher:
        publisher.publish(run_event(0)).wait(TIMEOUT_S)
        sender = publisher._engine.sender

        def trip() -> None:
            monkeypatch.undo()
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(sender, "_settle", trip)
        for number in range(1, 100):
            publisher.publish(run_event(number))
        publisher.flush(TIMEOUT_S)
        assert any("a bug" in str(error) for error in told)
        silent = sender.producer
        sender.producer = _SilentClient()  # type: ignore[assignment]
        for number in range(100, 200):
            publisher.publish(run_event(number))
        eventually(lambda: sender._in_flight, TIMEOUT_S, "events are handed to the silent client")
        sender._fatal = True
        publisher.flush(TIMEOUT_S)
        del silent
    numbers = [
        json.loads(value)["data"]["input_tokens"] for _, _, value in read_topic(kafka, topic)
    ]
    assert list(dict.fromkeys(numbers)) == list(range(200))


def test_replacing_the_client_in_full_flow_keeps_order(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Calling everything back and sending it again, many times over, loses and reorders nothing."""
    topic = create_events_topic(kafka, prefix)
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix, durability="queued")
    with Publisher(settings) as publisher:
        sender = publisher._engine.sender
        interrupted = 0
        for number in range(20_000):
            publisher.publish(run_event(number, f"team-{number % 5}"))
            if number % 500 == 250 and sender._in_flight:
                sender._fatal = True
                interrupted += 1
        publisher.flush(TIMEOUT_S)
    by_team: dict[str, list[int]] = defaultdict(list)
    for _, key, value in read_topic(kafka, topic):
        by_team[key.decode()].append(json.loads(value)["data"]["input_tokens"])
    assert interrupted > 0
    first = {team: list(dict.fromkeys(numbers)) for team, numbers in by_team.items()}
    assert first == {f"team-{team}": list(range(team, 20_000, 5)) for team in range(5)}


class _SilentClient:
    """Stands in for a Kafka client that takes everything and never answers again."""

    def produce(self, *_: object, **__: object) -> None:
        """Take the message and forget it."""

    def poll(self, timeout_s: float) -> int:
        """Answer nothing."""
        threading.Event().wait(min(timeout_s, 0.01))
        return 0

    def purge(self) -> None:
        """Give nothing back."""

    def flush(self, _timeout_s: float) -> int:
        """Leave one message where it is."""
        return 1


def test_threads_share_a_publisher(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Eight threads publish at once, and each one's events arrive in its order."""
    topic = create_events_topic(kafka, prefix)
    with Publisher(make_settings(tmp_path, kafka, topic_prefix=prefix)) as publisher:

        def publish(thread: int) -> None:
            for number in range(200):
                publisher.publish(run_event(1000 * thread + number, f"team-{thread}"))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        publisher.flush(TIMEOUT_S)
    by_team = defaultdict(list)
    for _, key, value in read_topic(kafka, topic):
        by_team[key.decode()].append(json.loads(value)["data"]["input_tokens"])
    assert by_team == {
        f"team-{thread}": [1000 * thread + number for number in range(200)] for thread in range(8)
    }
