"""What is broken in a journal stops its readers until a new generation begins behind it."""

import shutil
import struct
import threading
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from tests.integration.audit.conftest import Audit, records
from tests.integration.audit.pipeline import Pipeline
from tests.support.events import rate_card
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.cli.topic_admin import TopicAdmin
from meterstream.local.kafka import KafkaBroker
from meterstream.sinks.service import Service
from meterstream.sinks.settings import load_settings
from meterstream.streams.publisher import Publisher
from meterstream.streams.settings import PublisherSettings

pytestmark = pytest.mark.timeout(400)


def test_a_broken_record(
    tmp_path: Path, clickhouse: ClickHouseAddress, database: str, audit: Audit
) -> None:
    """One flipped byte in a copy of the data is named by all; a new generation counts it all."""
    whole, made = tmp_path / "whole", records(0, 400)
    with KafkaBroker(whole) as broker:
        pipeline = Pipeline(broker.bootstrap, "copied.", clickhouse, database, partitions=1)
        meter = pipeline.meter(0)
        with pipeline.services():
            meter.count(made[:200], parts=5, cards=[rate_card()])
            pipeline.settle()
        read_to = meter.state.link.prev
        meter.count(made[200:], parts=5)
    copy, broken = tmp_path / "copy", read_to + 3
    shutil.copytree(whole, copy)
    flip_a_byte(copy, "copied.journal-0", broken)
    with KafkaBroker(copy) as broker:
        pipeline.move_to(broker.bootstrap)
        outcome = audit(pipeline, "--timeout", "0.5")
        assert outcome.code == 1, outcome.out + outcome.err
        assert (
            f"difference: copied.journal, partition 0, offset {broken}: the record cannot be read"
            in outcome.out
        )
        reasons = failures(pipeline)
        for who in ("cells", "history", "publisher"):
            assert f"offset {broken}" in reasons[who] or who == "publisher", reasons
            assert "CRC-32 is" in reasons[who]
            assert "--new-generation" in reasons[who]

        meter.begin_again()
        position = meter.state.events_position
        assert 200 < position < 400
        with pipeline.services():
            meter.count(made[position:], published=True)
            pipeline.settle()
        outcome = audit(pipeline)
        assert outcome.code == 0, outcome.out + outcome.err
        assert f"journal offset {broken} is broken" in outcome.out
        assert f"generation 2 goes on at offset {read_to + 6}" in outcome.out


def test_a_journal_that_was_made_again(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, audit: Audit
) -> None:
    """A new generation in it goes on behind what ClickHouse has counted, at its first offset."""
    pipeline = Pipeline(kafka, prefix, clickhouse, database, partitions=1)
    meter, made = pipeline.meter(0), records(0, 400)
    with pipeline.services():
        meter.count(made[:200], parts=20, cards=[rate_card()])
        pipeline.settle()
    make_again(kafka, prefix)
    reasons = failures(pipeline, publisher=False)
    assert "none of the records that ClickHouse knows" in reasons["cells"]
    assert "none of the records that ClickHouse knows" in reasons["history"]

    meter.begin_again()
    assert (meter.state.events_position, meter.state.link.prev) == (200, 0)
    with pipeline.services():
        meter.count(made[200:], parts=4)
        pipeline.settle()
    with pipeline.services():  # from positions of the new generation
        meter.idle(meter.state.clock_us)
        pipeline.settle()
    outcome = audit(pipeline)
    assert outcome.code == 0, outcome.out + outcome.err
    closed = pipeline.client.query(
        f"SELECT generation, toYear(day_closed_until) > 2100 FROM {database}.watermarks FINAL"
        " ORDER BY generation"
    )
    assert closed.result_rows == [(1, 1), (2, 0)]


def failures(pipeline: Pipeline, *, publisher: bool = True) -> dict[str, str]:
    """Let the services run until they cannot go on; return why, by name."""
    sink = Service(
        load_settings(
            kafka_bootstrap=pipeline.bootstrap,
            topic_prefix=pipeline.prefix,
            clickhouse_url=pipeline.address.url,
            clickhouse_user=pipeline.address.user,
            clickhouse_password=pipeline.address.password,
            clickhouse_database=pipeline.database,
            sink_feeds="cells,history",
        )
    )
    sink.start()
    try:
        eventually(lambda: len(sink.failures) == 2, 60, "the sink's failures")
        found = dict(sink.failures)
        if publisher:
            found["publisher"] = publisher_failure(pipeline)
    finally:
        sink.stop()
        sink.wait()
    return found


def publisher_failure(pipeline: Pipeline) -> str:
    """Let a publisher run until it stops partition 0; return why."""
    service = Publisher(
        PublisherSettings(kafka_bootstrap=pipeline.bootstrap, topic_prefix=pipeline.prefix)
    )
    stopped = threading.Event()
    thread = threading.Thread(target=service.run, args=(stopped,))
    thread.start()
    try:
        eventually(lambda: "stopped" in service.unready(), 60, "the publisher's failure")
        reasons: dict[str, str] = service.unready()["stopped"]
    finally:
        stopped.set()
        thread.join()
    return reasons["0"]


def make_again(kafka: str, prefix: str) -> None:
    """Delete the journal and create it again."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([f"{prefix}journal"])[f"{prefix}journal"].result(30)
    eventually(
        lambda: f"{prefix}journal" not in admin.list_topics(timeout=30).topics, 30, "it is gone"
    )
    TopicAdmin({"bootstrap.servers": kafka}, prefix).create(["journal"], 1)


def flip_a_byte(data: Path, log: str, offset: int) -> None:
    """Flip one bit in the middle of the record batch that begins at `offset`."""
    (segment,) = data.rglob(f"{log}/*.log")
    content = bytearray(segment.read_bytes())
    at = 0
    while True:
        base, length = struct.unpack_from(">qi", content, at)
        if base == offset:
            break
        at += 12 + length
    content[at + (12 + length) * 3 // 4] ^= 0x10
    segment.write_bytes(content)
