"""The flush against the real engine: rows land once, windows close, retries change nothing."""

from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import DAY_US, MINUTE_US, TODAY_US, Writer, cell, decoded

from meterstream.schemas.journal import Link
from meterstream.sinks.cells import read_watermarks
from meterstream.sinks.errors import RowsRefused
from meterstream.sinks.flush import flush
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore


class Sink:
    """Flushes the records of one partition as the cells feed does."""

    def __init__(self, store: ClickHouseStore, partition: int = 0) -> None:
        self.state = PartitionState(partition)
        self.store = store
        self.committed: dict[int, Link] = {}

    def take(self, *records: object) -> None:
        for one in decoded(*records):  # type: ignore[arg-type]
            self.state.add(one)
        flush([self.state], self.store, self.committed.update, now_us=0)

    def reread(self, client: Client) -> PartitionState:
        """Return the state that a restart finds in ClickHouse."""
        partition, link = self.state.partition, self.committed[self.state.partition]
        return PartitionState(partition, link, read_watermarks(client, partition, link))


def usage(client: Client, by: str, window: str) -> list[tuple[object, ...]]:
    """Return name, runs, credits and median latency by window."""
    return [
        tuple(row)
        for row in client.query(
            f"SELECT {by}_id, runs, credits_micro, latency_p50_ms FROM usage_by_{by}("
            "window = {window:String}, zone = 'UTC', since = '', until = '')"
            " ORDER BY window_start, 1",
            parameters={"window": window},
        ).result_rows
    ]


def test_minutes_charges_and_ledger_of_a_step_are_in_clickhouse(
    migrated: Client, store: ClickHouseStore
) -> None:
    """What a step holds stands in the tables after a flush."""
    writer, sink = Writer(), Sink(store)
    sink.take(
        writer.genesis(TODAY_US),
        writer.step(
            [cell(TODAY_US, runs=2, credits_micro=3_000_000, agent_id="a-1")],
            charges=[
                {
                    "event_offset": 0,
                    "event_time": TODAY_US,
                    "card": "default@1",
                    "credits_micro": 1_000_000,
                },
                {
                    "event_offset": 1,
                    "event_time": TODAY_US,
                    "card": "default@1",
                    "credits_micro": 2_000_000,
                },
            ],
        ),
    )
    assert usage(migrated, "team", "1d") == [("team-1", 2, 3_000_000, 0.05)]
    charges = migrated.query(
        "SELECT event_offset, agent_id, late, credits_micro FROM charges ORDER BY event_offset"
    )
    assert charges.result_rows == [(0, "a-1", -1, 1_000_000), (1, "a-1", -1, 2_000_000)]
    ledger = migrated.query(
        "SELECT kind, events_from, events_to, counted, charged_runs, charged_micro FROM ledger"
        " ORDER BY journal_offset"
    )
    assert ledger.result_rows == [("genesis", 0, 0, 0, 0, 0), ("step", 0, 2, 2, 2, 3_000_000)]
    assert sink.committed == {0: writer.chain.link}
    total = migrated.query(
        "SELECT credits FROM usage_by_team(window='1d', zone='UTC', since='', until='')"
    )
    assert total.result_rows == [(Decimal("3.000000"),)]


def test_closed_windows_move_to_coarse_rows_and_the_sums_stay(
    migrated: Client, store: ClickHouseStore
) -> None:
    """Before, while and after a quarter and a day close, with late rows, sums are the same."""
    yesterday_us = TODAY_US - DAY_US
    writer, sink = Writer(), Sink(store)
    sink.take(
        writer.genesis(yesterday_us),
        writer.step([cell(yesterday_us, runs=1), cell(yesterday_us + 20 * MINUTE_US, runs=10)]),
    )
    assert usage(migrated, "team", "1d") == [("team-1", 11, 0, 0.05)]
    sink.take(writer.idle(yesterday_us + 26 * MINUTE_US))
    assert migrated.command("SELECT count() FROM usage_quarters") == 1
    sink.take(writer.step(late=[cell(yesterday_us, runs=100)]))
    assert usage(migrated, "team", "1d") == [("team-1", 111, 0, 0.05)]
    assert usage(migrated, "team", "15m") == [
        ("team-1", 101, 0, 0.05),
        ("team-1", 10, 0, 0.05),
    ]
    sink.take(writer.idle(TODAY_US + 11 * MINUTE_US))
    for window in ("1m", "15m", "1h", "1d", "1mo"):
        assert sum(int(str(row[1])) for row in usage(migrated, "team", window)) == 111, window
    migrated.command("TRUNCATE TABLE usage_minutes")
    migrated.command("TRUNCATE TABLE usage_quarters")
    assert usage(migrated, "team", "1d") == [("team-1", 111, 0, 0.05)]


def test_a_new_generation_adds_and_closes_the_one_before(
    migrated: Client, store: ClickHouseStore
) -> None:
    """The same cell counted in two generations counts twice; the old one's windows all close."""
    writer, sink = Writer(), Sink(store)
    sink.take(writer.genesis(TODAY_US), writer.step([cell(TODAY_US, runs=1)]))
    sink.take(writer.new_generation(TODAY_US + MINUTE_US), writer.step([cell(TODAY_US, runs=10)]))
    assert usage(migrated, "team", "1d") == [("team-1", 11, 0, 0.05)]
    closed = migrated.query("SELECT generation, runs FROM usage_days FINAL").result_rows
    assert closed == [(1, 1)]
    assert [lineage.generation for lineage in sink.state.watermarks] == [2]
    assert [lineage.generation for lineage in sink.reread(migrated).watermarks] == [2]


def test_a_partition_without_a_watermark_reads_minutes(
    migrated: Client, store: ClickHouseStore
) -> None:
    """Minutes whose watermark is not written yet are counted all the same."""
    writer, sink = Writer(), Sink(store)
    sink.take(writer.genesis(TODAY_US), writer.step([cell(TODAY_US, runs=3)]))
    migrated.command("TRUNCATE TABLE watermarks")
    assert usage(migrated, "team", "1d") == [("team-1", 3, 0, 0.05)]


def test_a_refused_row_is_set_aside_and_its_neighbours_land(
    migrated: Client, store: ClickHouseStore
) -> None:
    """One row that ClickHouse refuses keeps no other row out, and holds its windows open."""
    migrated.command("ALTER TABLE usage_minutes ADD CONSTRAINT no_bad_users CHECK user_id != 'bad'")
    writer, sink = Writer(), Sink(store)
    users = [f"u-{number}" for number in range(20)]
    users[7] = "bad"
    sink.take(
        writer.genesis(TODAY_US - DAY_US),
        writer.step([cell(TODAY_US - DAY_US, runs=1, user_id=user) for user in users]),
    )
    assert usage(migrated, "team", "1d") == [("team-1", 19, 0, 0.05)]
    refused = migrated.query("SELECT target, row_json, error FROM quarantine").result_rows
    assert [row[0] for row in refused] == ["usage_minutes"]
    assert '"user_id": "bad"' in refused[0][1]
    assert "no_bad_users" in refused[0][2]
    sink.take(writer.idle(TODAY_US + 11 * MINUTE_US))
    assert migrated.command("SELECT count() FROM usage_quarters") == 0
    assert sink.reread(migrated).watermarks == sink.state.watermarks
    migrated.command("ALTER TABLE usage_minutes DROP CONSTRAINT no_bad_users")
    migrated.raw_insert("usage_minutes", insert_block=refused[0][1], fmt="JSONEachRow")
    migrated.command("TRUNCATE TABLE quarantine")
    sink.state = sink.reread(migrated)
    sink.take(writer.idle(TODAY_US + 12 * MINUTE_US))
    assert migrated.command("SELECT sum(runs) FROM usage_days FINAL") == 20
    assert usage(migrated, "user", "1d")[0] == ("bad", 1, 0, 0.05)


def test_a_table_that_refuses_every_row_stops_the_flush(
    migrated: Client, store: ClickHouseStore
) -> None:
    """Where all rows are refused the rows are not at fault, and none is set aside."""
    migrated.command("ALTER TABLE usage_minutes ADD CONSTRAINT nothing CHECK runs < 0")
    writer, sink = Writer(), Sink(store)
    cells = [cell(TODAY_US, user_id=f"u-{number}") for number in range(300)]
    with pytest.raises(RowsRefused, match="more than 100 rows of one insert into usage_minutes"):
        sink.take(writer.genesis(TODAY_US), writer.step(cells))
    assert sink.state.pending
    assert migrated.command("SELECT count() FROM quarantine") == 0


def test_windows_close_by_the_grace_that_the_journal_tells(
    migrated: Client, store: ClickHouseStore
) -> None:
    """A meter that starts again with another grace changes no sum and stops no sink."""
    writer, sink = Writer(grace_seconds=0), Sink(store)
    sink.take(writer.genesis(TODAY_US), writer.step([cell(TODAY_US, runs=1)]))
    sink.take(writer.idle(TODAY_US + 16 * MINUTE_US))
    assert migrated.command("SELECT sum(runs) FROM usage_quarters FINAL") == 1
    writer.grace_seconds = 3600
    minute_us = TODAY_US + 15 * MINUTE_US
    sink.take(writer.step([cell(minute_us, runs=10)], late=[cell(TODAY_US, runs=5)]))
    sink.take(writer.idle(TODAY_US + 45 * MINUTE_US))
    assert migrated.command("SELECT sum(runs) FROM usage_quarters FINAL WHERE late = -1") == 1
    assert usage(migrated, "team", "15m") == [("team-1", 6, 0, 0.05), ("team-1", 10, 0, 0.05)]
    sink.state = sink.reread(migrated)
    sink.take(writer.step([cell(minute_us, runs=11)]), writer.idle(TODAY_US + 90 * MINUTE_US))
    assert migrated.command("SELECT sum(runs) FROM usage_quarters FINAL WHERE late = -1") == 12
    assert usage(migrated, "team", "15m") == [("team-1", 6, 0, 0.05), ("team-1", 11, 0, 0.05)]


def test_records_that_are_read_again_close_their_windows_again(
    migrated: Client, store: ClickHouseStore
) -> None:
    """A kill between the watermark and the commit, also across a new generation."""
    writer, sink = Writer(), Sink(store)
    sink.take(writer.genesis(TODAY_US), writer.step([cell(TODAY_US, runs=1)]))
    restart = sink.committed[0]
    again = [
        writer.step([cell(TODAY_US, runs=5)]),
        writer.idle(TODAY_US + 26 * MINUTE_US),
        writer.new_generation(TODAY_US + 26 * MINUTE_US),
        writer.step([cell(TODAY_US + 17 * MINUTE_US, runs=20)]),
        writer.idle(TODAY_US + 41 * MINUTE_US),
    ]
    for _ in range(2):
        for record in again:
            sink.take(record)
        assert usage(migrated, "team", "15m") == [("team-1", 5, 0, 0.05), ("team-1", 20, 0, 0.05)]
        assert migrated.command("SELECT sum(runs) FROM usage_quarters FINAL") == 25
        sink.state = PartitionState(0, restart, read_watermarks(migrated, 0, restart))


def test_partitions_close_by_their_own_clocks(migrated: Client, store: ClickHouseStore) -> None:
    """A window of one partition is read from coarse rows while another's is read from minutes."""
    first, second, sink = Writer(partition=0), Writer(partition=1), Sink(store)
    other = Sink(store, partition=1)
    sink.take(first.genesis(TODAY_US), first.step([cell(TODAY_US, runs=1)]))
    other.take(second.genesis(TODAY_US), second.step([cell(TODAY_US, runs=10, user_id="u-2")]))
    sink.take(first.idle(TODAY_US + 25 * MINUTE_US))
    assert migrated.command("SELECT sum(runs) FROM usage_quarters") == 1
    assert usage(migrated, "team", "15m") == [("team-1", 11, 0, 0.05)]
    assert usage(migrated, "user", "15m") == [("", 1, 0, 0.05), ("u-2", 10, 0, 0.05)]
