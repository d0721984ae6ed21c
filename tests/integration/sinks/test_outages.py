"""The sink when things go away: ClickHouse, journal records that it has stored, its group."""

import time
from collections.abc import Callable
from uuid import UUID

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, TopicPartition
from tests.integration.sinks.journal_topic import (
    JournalTopic,
    create_topics,
    delete_before,
    make_anew,
)
from tests.support.journal import MINUTE_US, Writer, cell
from tests.support.stack import OwnClickHouse
from tests.support.waiting import eventually

from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate
from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings, load_settings

NOW_US = time.time_ns() // 1_000_000 * 1000
MINUTE = NOW_US // MINUTE_US * MINUTE_US

RunSink = Callable[[SinkSettings], Service]


def rows(client: Client, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    return [tuple(row) for row in client.query(sql).result_rows]


def stop(service: Service) -> None:
    """Stop a sink that had no failure."""
    service.stop()
    service.wait()
    assert not service.failures


def test_clickhouse_may_be_away_for_a_while(
    kafka: str, prefix: str, own_clickhouse: OwnClickHouse, run_sink: RunSink
) -> None:
    """What arrives while ClickHouse is down, or before it is up, is there once it is back."""
    create_topics(kafka, prefix, "journal")
    journal, writer = JournalTopic(kafka, prefix), Writer()
    client = connect(own_clickhouse.url, user=own_clickhouse.user, password=own_clickhouse.password)
    migrate(client, "away")
    settings = load_settings(
        kafka_bootstrap=kafka,
        topic_prefix=prefix,
        clickhouse_url=own_clickhouse.url,
        clickhouse_user=own_clickhouse.user,
        clickhouse_password=own_clickhouse.password,
        clickhouse_database="away",
        sink_feeds="cells",
        sink_flush_ms=50,
        sink_history_flush_ms=50,
    )
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE, runs=1)]))
    service = run_sink(settings)
    count = "SELECT sum(runs) FROM usage_minutes FINAL"
    eventually(lambda: rows(client, count) == [(1,)], 60, "the first record")
    own_clickhouse.kill()
    journal.write(writer.step([cell(MINUTE, runs=2)]))
    retries = service.metrics.retries.labels("cells")._value
    eventually(lambda: retries.get() > 0, 60, "a flush tried again")
    journal.write(writer.step([cell(MINUTE, runs=3)]))
    own_clickhouse.start()
    eventually(lambda: rows(client, count) == [(3,)], 60, "all records")
    stop(service)
    assert rows(client, "SELECT sum(counted) FROM ledger FINAL") == [(6,)]
    own_clickhouse.kill()
    waiting = run_sink(settings)
    eventually(lambda: "cells" in waiting.unready(), 60, "a sink that waits for ClickHouse")
    assert not waiting.unhealthy()
    stop(waiting)


def test_a_journal_that_lost_records_takes_their_rows_with_it(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Rows of records that are gone go too; what came before them, and after, stands."""
    create_topics(kafka, prefix, "journal")
    writer = Writer()
    old_minute = MINUTE - 3 * 60 * MINUTE_US
    kept = [
        writer.genesis(old_minute),
        writer.step([cell(old_minute, runs=1, user_id="old")]),
        writer.step([cell(MINUTE, runs=1, user_id="both")], clock_us=NOW_US),
    ]
    before = Writer(**{name: getattr(writer, name) for name in _PLACE})
    before.chain = type(writer.chain)(writer.chain.link)
    lost = [
        writer.step(
            [cell(MINUTE, runs=7, user_id="both"), cell(MINUTE, runs=9, user_id="lost")],
            charges=[{"event_offset": at, "event_time": NOW_US} for at in range(2, 16)],
        ),
        writer.step([cell(MINUTE, runs=11, user_id="lost")]),
    ]
    JournalTopic(kafka, prefix).write(*kept, *lost)
    first = run_sink(settings)
    users = "SELECT user_id, runs FROM usage_minutes FINAL ORDER BY user_id"
    eventually(lambda: ("lost", 11) in rows(migrated, users), 60, "all records")
    stop(first)
    make_anew(kafka, prefix, "journal")
    JournalTopic(kafka, prefix).write(*kept)
    second = run_sink(settings)
    eventually(
        lambda: rows(migrated, users) == [("both", 1), ("old", 1)],
        60,
        "the lost records' rows gone",
    )
    assert rows(migrated, "SELECT count() FROM charges") == [(0,)]
    assert rows(migrated, "SELECT max(journal_offset) FROM ledger") == [(2,)]
    JournalTopic(kafka, prefix).write(before.step([cell(MINUTE, runs=4, user_id="both")]))
    eventually(lambda: ("both", 4) in rows(migrated, users), 60, "the record that came instead")
    assert second.metrics.truncations.labels("cells", 0)._value.get() == 1
    stop(second)


def test_a_cut_after_kafka_was_set_up_anew_leaves_the_rows_of_before(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Both journals begin with generation 1 at offset 0, and the old one was the longer one."""
    users = "SELECT user_id, runs FROM usage_minutes FINAL ORDER BY user_id"
    position = "SELECT next_offset FROM positions FINAL"
    create_topics(kafka, prefix, "journal")
    old = Writer(events_topic_id=UUID(int=7))
    JournalTopic(kafka, prefix).write(
        old.genesis(NOW_US), *(old.step([cell(MINUTE, runs=n, user_id="old")]) for n in range(1, 7))
    )
    first = run_sink(settings)
    eventually(lambda: rows(migrated, position) == [(7,)], 60, "all of the old journal")
    stop(first)
    make_anew(kafka, prefix, "journal")
    migrated.command("TRUNCATE TABLE positions")
    new = Writer()
    kept = [new.genesis(NOW_US), new.step([cell(MINUTE, runs=2, user_id="new")])]
    lost = [new.step([cell(MINUTE, runs=3, user_id="lost")]) for _ in range(2)]
    JournalTopic(kafka, prefix).write(*kept, *lost)
    second = run_sink(settings)
    eventually(lambda: rows(migrated, position) == [(4,)], 60, "all of the new journal")
    stop(second)
    make_anew(kafka, prefix, "journal")
    JournalTopic(kafka, prefix).write(*kept)
    third = run_sink(settings)
    eventually(
        lambda: rows(migrated, position) == [(2,)] or third.failures, 60, "what is left of it"
    )
    stop(third)
    assert rows(migrated, users) == [("new", 2), ("old", 6)]


def test_a_journal_made_anew_stops_the_feed(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A journal that shares no record with what is stored is not followed."""
    create_topics(kafka, prefix, "journal")
    writer, other = Writer(), Writer()
    JournalTopic(kafka, prefix).write(writer.genesis(NOW_US), writer.step([cell(MINUTE, runs=1)]))
    first = run_sink(settings)
    eventually(lambda: rows(migrated, "SELECT count() FROM ledger") == [(2,)], 60, "all records")
    stop(first)
    make_anew(kafka, prefix, "journal")
    JournalTopic(kafka, prefix).write(other.genesis(NOW_US + 1))
    second = run_sink(settings)
    eventually(second.unhealthy, 60, "the feed stopped")
    assert "none of the records that ClickHouse knows" in second.failures["cells"]
    assert rows(migrated, "SELECT sum(runs) FROM usage_minutes FINAL") == [(1,)]


def test_a_sink_that_was_down_for_too_long_stops(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Records that retention removed before they were stored are not passed over in silence."""
    create_topics(kafka, prefix, "journal")
    journal, writer = JournalTopic(kafka, prefix), Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE, runs=1)]))
    first = run_sink(settings)
    eventually(lambda: rows(migrated, "SELECT count() FROM ledger") == [(2,)], 60, "all records")
    stop(first)
    journal.write(writer.step([cell(MINUTE, runs=2)]), writer.step([cell(MINUTE, runs=3)]))
    delete_before(kafka, journal.topic, 3)
    second = run_sink(settings)
    eventually(second.unhealthy, 60, "the feed stopped")
    assert "the rows between are lost" in second.failures["cells"]


def test_retention_of_what_is_stored_does_no_harm(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A restart goes on at its link even where the record before it is gone."""
    create_topics(kafka, prefix, "journal")
    journal, writer = JournalTopic(kafka, prefix), Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE, runs=1)]))
    first = run_sink(settings)
    eventually(lambda: rows(migrated, "SELECT count() FROM ledger") == [(2,)], 60, "all records")
    stop(first)
    delete_before(kafka, journal.topic, 2)
    journal.write(writer.step([cell(MINUTE, runs=2)]))
    run_sink(settings)
    eventually(lambda: rows(migrated, "SELECT count() FROM ledger") == [(3,)], 60, "the new record")


def test_an_offset_that_somebody_set_is_refused(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink
) -> None:
    """A committed offset without a link is a bare offset, and nobody starts at one."""
    create_topics(kafka, prefix, "journal")
    journal, writer = JournalTopic(kafka, prefix), Writer()
    journal.write(writer.genesis(NOW_US), writer.step([cell(MINUTE)]))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": settings.group("cells")})
    consumer.commit(offsets=[TopicPartition(journal.topic, 0, 1)], asynchronous=False)
    consumer.close()
    service = run_sink(settings)
    eventually(service.unhealthy, 60, "the feed stopped")
    assert "has no link with it" in service.failures["cells"]


def test_two_sinks_share_the_partitions_and_one_takes_over(
    kafka: str, prefix: str, settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Partitions move between sinks, and every record is there once."""
    create_topics(kafka, prefix, "journal", partitions=4)
    journal = JournalTopic(kafka, prefix)
    writers = [Writer(partition=number) for number in range(4)]
    for writer in writers:
        journal.write(writer.genesis(NOW_US), check=False)
    first, total = run_sink(settings), 0
    second = run_sink(settings)
    count = "SELECT sum(runs) FROM usage_minutes FINAL"
    for turn in range(1, 9):
        for writer in writers:
            user = f"u-{writer.partition}-{turn}"
            journal.write(writer.step([cell(MINUTE, runs=turn, user_id=user)]), check=False)
            total += turn
        if turn == 4:
            stop(first)
    eventually(lambda: rows(migrated, count) == [(total,)], 90, "all records")
    ledger = "SELECT count() FROM ledger FINAL"  # written after the usage that it vouches for
    eventually(lambda: rows(migrated, ledger) == [(4 * 9,)], 30, "each record in the ledger once")
    stop(second)


_PLACE = (
    "partition",
    "clock_us",
    "events_position",
    "generation",
    "events_topic_id",
    "next_offset",
    "prev",
    "leader_epoch",
)
