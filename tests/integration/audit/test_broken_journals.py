"""What is broken in a journal stops its readers until a new generation begins behind it."""

import shutil
import struct
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.integration.audit.conftest import Audit, records
from tests.integration.audit.pipeline import Pipeline
from tests.support.events import rate_card
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.cli.topic_admin import TopicAdmin
from meterstream.local.kafka import KafkaBroker
from meterstream.schemas.journal import Link
from meterstream.streams.settings import PublisherSettings

pytestmark = pytest.mark.timeout(400)


def test_broken_records(
    tmp_path: Path, clickhouse: ClickHouseAddress, database: str, audit: Audit
) -> None:
    """A flipped byte in a copy of the data is named by all; a new generation counts the rest."""
    made = [records(partition, 300) for partition in (0, 1)]
    with KafkaBroker(tmp_path / "whole") as broker:
        pipeline = Pipeline(broker.bootstrap, "copied.", clickhouse, database, partitions=2)
        meters = [pipeline.meter(partition) for partition in (0, 1)]
        with pipeline.services():
            for meter in meters:
                meter.count(made[meter.partition][:150], parts=3, cards=[rate_card()])
            pipeline.settle()
        for meter, compression in zip(meters, ("none", "zstd"), strict=True):
            pipeline.move_to(broker.bootstrap, compression)
            meter.count(made[meter.partition][150:], parts=4)
        meters[0].keep_snapshot()  # behind what will be broken
    broken = [meter.state.link.prev - 2 for meter in meters]
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "whole", copy)
    flip_a_byte(copy, "copied.journal-0", broken[0], where=0.75)
    flip_a_byte(copy, "copied.journal-1", broken[1], where=1.0)  # librdkafka cannot unpack it
    with KafkaBroker(copy) as broker:
        pipeline.move_to(broker.bootstrap)
        outcome = audit(pipeline, "--timeout", "0.5")
        assert outcome.code == 1, outcome.out + outcome.err
        for partition, offset in enumerate(broken):
            where = f"copied.journal, partition {partition}, offset {offset}"
            assert f"difference: {where}: the record cannot be read" in outcome.out
        reasons = failures(pipeline)
        assert all("--new-generation" in reason for reason in reasons)
        for place, fault in (("journal-0", "CRC-32 is"), ("journal-1", "Decompression")):
            assert any(place in reason and fault in reason for reason in reasons), reasons

        assert pipeline.begin_again(0) == [0], "though the meter has a snapshot behind the break"
        assert pipeline.begin_again(1) == [1]
        for meter in meters:
            meter.restore()
        with pipeline.services():
            for meter in meters:
                position = meter.state.events_position
                assert 150 <= position < 300
                meter.count(made[meter.partition][position:], published=True)
            pipeline.settle()
        outcome = audit(pipeline)
        assert outcome.code == 0, outcome.out + outcome.err
        for partition, offset in enumerate(broken):
            note = f"partition {partition}: journal offset {offset} is broken"
            assert note in outcome.out
            assert f"generation 2 goes on at offset {offset + 3}" in outcome.out


@pytest.fixture
def single(kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str) -> Pipeline:
    """Return an empty pipeline of one partition."""
    return Pipeline(kafka, prefix, clickhouse, database, partitions=1)


def test_a_journal_that_was_made_again(single: Pipeline, audit: Audit) -> None:
    """A new generation in it goes on behind what ClickHouse has counted, at its first offset."""
    meter, made = single.meter(0), records(0, 400)
    with single.services():
        meter.count(made[:200], parts=20, cards=[rate_card()])
        single.settle()
    make_again(single.bootstrap, single.prefix)
    for reason in failures(single, publisher=False):
        assert "none of the records that ClickHouse knows" in reason

    commit_again(single, meter.state.link)  # as if Kafka had kept the offsets of the old topic
    assert single.begin_again() == [0]
    meter.restore()
    assert (meter.state.events_position, meter.state.link.prev) == (200, 0)
    with single.services():
        meter.count(made[200:], parts=4)
        single.settle()
    # A sink that was killed before it wrote its position finds the new generation once more.
    single.client.command(
        f"ALTER TABLE {single.database}.positions DELETE WHERE generation = 2",
        settings={"mutations_sync": 2},
    )
    with single.services():
        meter.idle(meter.state.clock_us)
        single.settle()
    with single.services():  # from positions of the new generation
        meter.idle(meter.state.clock_us)
        single.settle()
    outcome = audit(single)
    assert outcome.code == 0, outcome.out + outcome.err
    closed = single.client.query(
        "SELECT generation, toYear(day_closed_until) > 2100"
        f" FROM {single.database}.watermarks FINAL ORDER BY generation"
    )
    assert closed.result_rows == [(1, 1), (2, 0)]


def test_a_sink_that_was_away_for_longer_than_the_journal_is_kept(
    single: Pipeline, audit: Audit
) -> None:
    """A new generation for its partition decides again, from the ledger's end, what it missed."""
    meter, made = single.meter(0), records(0, 400)
    with single.services():
        meter.count(made[:200], parts=4, cards=[rate_card()])
        single.settle()
    meter.count(made[200:300], parts=4)
    meter.keep_snapshot()
    kept = TopicPartition(f"{single.prefix}journal", 0, meter.state.link.prev)
    admin = AdminClient({"bootstrap.servers": single.bootstrap})
    for deleted in admin.delete_records([kept]).values():
        deleted.result(30)
    for reason in failures(single, publisher=False):
        assert "down for longer than the journal is kept" in reason

    assert single.begin_again(0) == [0], "though the meter has a snapshot behind it"
    meter.restore()
    assert meter.state.events_position == 200
    with single.services():
        meter.count(made[200:300], published=True)
        meter.count(made[300:])
        decided = f"SELECT sum(events_to - events_from) FROM {single.database}.ledger FINAL"
        eventually(lambda: single.client.command(decided) == 400, 60, "all events are decided")
        outcome = audit(single, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.json["total"]["offered"] == 200


def failures(pipeline: Pipeline, *, publisher: bool = True) -> list[str]:
    """Let the services run until they cannot go on; return why."""
    sink = pipeline.sink()
    sink.start()
    try:
        found = publisher_failures(pipeline) if publisher else []
        eventually(lambda: len(sink.failures) == 2, 60, "the sink's failures")
    finally:
        sink.stop()
        sink.wait()
    return [*found, *sink.failures.values()]


def publisher_failures(pipeline: Pipeline) -> list[str]:
    """Let a publisher run until it has stopped all partitions; return why."""
    service = pipeline.publisher()

    def reasons() -> list[str]:
        found: dict[str, str] = service.unready().get("stopped", {})
        return list(found.values()) if len(found) == pipeline.partitions else []

    stopped = threading.Event()
    thread = threading.Thread(target=service.run, args=(stopped,))
    thread.start()
    try:
        return eventually(reasons, 60, "the publisher's failures")
    finally:
        stopped.set()
        thread.join()


def commit_again(pipeline: Pipeline, link: Link) -> None:
    """Commit a place of the publisher in partition 0."""
    settings = PublisherSettings(kafka_bootstrap=pipeline.bootstrap, topic_prefix=pipeline.prefix)
    group = settings.topic(settings.publisher_group)
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": group})
    place = TopicPartition(
        settings.topic("journal"), 0, link.next_offset, metadata=link.to_metadata()
    )
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


def make_again(kafka: str, prefix: str) -> None:
    """Delete the journal and create it again."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([f"{prefix}journal"])[f"{prefix}journal"].result(30)
    eventually(
        lambda: f"{prefix}journal" not in admin.list_topics(timeout=30).topics, 30, "it is gone"
    )
    TopicAdmin({"bootstrap.servers": kafka}, prefix).create(["journal"], 1)


def flip_a_byte(data: Path, log: str, offset: int, *, where: float) -> None:
    """Flip one bit in the record batch that begins at `offset`: `where` in it, 1.0 at its end."""
    (segment,) = data.rglob(f"{log}/*.log")
    content = bytearray(segment.read_bytes())
    at = 0
    while True:
        base, length = struct.unpack_from(">qi", content, at)
        if base == offset:
            break
        at += 12 + length
    content[at + min(int((12 + length) * where), 11 + length)] ^= 0x10
    segment.write_bytes(content)
