"""The cells feed as it runs: from a journal on a real broker into the real engine."""

import time
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition
from tests.integration.sinks.journal_topic import JournalTopic, create_topics, delete_before
from tests.support.journal import DAY_US, Writer, cell
from tests.support.waiting import eventually

from meterstream.schemas.journal import HEADER_KEY, Link
from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings

NOW_US = time.time_ns() // 1000
MINUTE_US = NOW_US // 60_000_000 * 60_000_000

RunSink = Callable[[SinkSettings], Service]


@pytest.fixture
def journal(kafka: str, prefix: str) -> JournalTopic:
    """Return an empty journal of one partition."""
    create_topics(kafka, prefix, "journal")
    return JournalTopic(kafka, prefix)


def runs(client: Client) -> int:
    """Return the runs in the minutes."""
    found = client.query("SELECT sum(runs) FROM usage_minutes FINAL").result_rows
    return int(found[0][0])


def stop(service: Service) -> None:
    """Stop a sink that had no failure."""
    service.stop()
    service.wait()
    assert not service.failures


def committed(settings: SinkSettings) -> Link | None:
    """Return the link that the cells feed has committed."""
    consumer = Consumer({**settings.kafka_client(), "group.id": settings.group("cells")})
    (found,) = consumer.committed([TopicPartition(settings.topic("journal"), 0)], timeout=30)
    consumer.close()
    return Link.from_metadata(found.metadata or "") if found.offset >= 0 else None


def test_records_land_and_a_restart_goes_on_at_the_link(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """After a stop the committed link is the last record's, and a new sink reads on from it."""
    writer = Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE_US, runs=2)]))
    first = run_sink(settings)
    eventually(lambda: runs(migrated) == 2, 60, "the first record in ClickHouse")
    stop(first)
    assert committed(settings) == writer.chain.link
    journal.write(writer.step([cell(MINUTE_US, runs=5)]))
    run_sink(settings)
    eventually(lambda: runs(migrated) == 5, 60, "the second record in ClickHouse")


def test_void_records_and_strangers_are_passed_over(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A record that does not continue the chain, or has no header, changes nothing."""
    writer, other = Writer(), Writer()
    genesis = writer.genesis(NOW_US)
    other.genesis(NOW_US)
    journal.write(genesis, writer.step([cell(MINUTE_US, runs=1)]))
    journal.write(other.step([cell(MINUTE_US, runs=100)]), check=False)
    journal.write_raw(b"stranger")
    writer.next_offset = 4
    writer.chain.skip_to(4)
    journal.write(writer.step([cell(MINUTE_US, runs=3)]))
    service = run_sink(settings)
    eventually(lambda: runs(migrated) == 3, 60, "the valid records in ClickHouse")
    void = service.metrics.void_records.labels("cells", 0)._value
    eventually(lambda: void.get() == 2, 60, "both counted as void")


def test_an_emptied_database_is_filled_again_from_the_genesis(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A committed link does not outweigh a database without rows."""
    writer = Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE_US, runs=2)]))
    first = run_sink(settings)
    eventually(lambda: runs(migrated) == 2, 60, "the record in ClickHouse")
    stop(first)
    for table in ("usage_minutes", "positions", "ledger", "watermarks"):
        migrated.command(f"TRUNCATE TABLE {table}")
    run_sink(settings)
    eventually(lambda: runs(migrated) == 2, 60, "the record in ClickHouse again")


def test_a_broken_record_stops_the_feed(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """What comes before it is stored, nothing after it, and the service says so."""
    writer = Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE_US, runs=2)]))
    broken = writer.step([cell(MINUTE_US, runs=3)])
    object.__setattr__(broken, "value", broken.value[:-1])
    journal.write(broken, writer.step([cell(MINUTE_US, runs=4)]))
    service = run_sink(settings)
    eventually(service.unhealthy, 60, "the feed stopped")
    assert "offset 2 cannot be read: the value's CRC-32 is" in service.failures["cells"]
    assert runs(migrated) in (0, 2)


def test_records_removed_before_they_were_read_stop_the_feed(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, kafka: str
) -> None:
    """A journal whose genesis is gone is not read from its middle."""
    writer = Writer()
    journal.write(
        *[writer.genesis(NOW_US), writer.step([cell(MINUTE_US)]), writer.step([cell(MINUTE_US)])]
    )
    delete_before(kafka, journal.topic, 2)
    service = run_sink(settings)
    eventually(service.unhealthy, 60, "the feed stopped")
    assert "the chain's beginning is gone" in service.failures["cells"]


def test_a_hole_in_the_chain_stops_the_feed(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A record that continues one that is nowhere is not passed over; what came before stands."""
    writer = Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE_US, runs=2)]))
    writer.step([cell(MINUTE_US, runs=3)])
    journal.write(writer.step([cell(MINUTE_US, runs=4)]), check=False)
    service = run_sink(settings)
    eventually(service.unhealthy, 60, "the feed stopped")
    assert "continues 2, which was not seen" in service.failures["cells"]
    assert "--new-generation" in service.failures["cells"]
    assert runs(migrated) in (0, 2)


def test_a_layout_of_a_newer_meter_stops_the_feed(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink
) -> None:
    """What cannot be told from valid is not taken for void."""
    journal.write_raw(b"value", headers=[(HEADER_KEY, bytes([9]) + bytes(100))])
    service = run_sink(settings)
    eventually(service.unhealthy, 60, "the feed stopped")
    assert "cannot be read" in service.failures["cells"]
    assert "update the sink" in service.failures["cells"]


def test_the_clock_closes_windows_without_events(
    journal: JournalTopic, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Idle records alone bring a day's minutes into the coarse tables."""
    writer = Writer()
    day_us = NOW_US // DAY_US * DAY_US - DAY_US
    journal.write(
        writer.genesis(day_us), writer.step([cell(day_us, runs=7)]), writer.idle(NOW_US - 1000)
    )
    run_sink(settings)

    def closed() -> bool:
        found = migrated.query("SELECT sum(runs) FROM usage_days FINAL WHERE late = -1")
        return int(found.result_rows[0][0]) == 7

    eventually(closed, 60, "the day's row")
