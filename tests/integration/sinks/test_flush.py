"""The flush against the real engine: rows land once, windows close, retries change nothing."""

import time
from decimal import Decimal

from clickhouse_connect.driver.client import Client
from tests.support.journal import DAY_US, GRACE_US, MINUTE_US, Writer, cell, decoded

from meterstream.schemas.journal import Link
from meterstream.sinks.flush import flush
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore

TODAY_US = int(time.time()) // 86_400 * DAY_US
"""Midnight: rows far in the past would be removed by their TTL."""


class Sink:
    """Flushes the records of one partition as the cells feed does."""

    def __init__(self, store: ClickHouseStore) -> None:
        self.state = PartitionState(0)
        self.store = store
        self.committed: dict[int, Link] = {}

    def take(self, *records: object) -> None:
        for one in decoded(*records):  # type: ignore[arg-type]
            self.state.add(one, GRACE_US)
        flush([self.state], self.store, self.committed.update, grace_us=GRACE_US, now_us=0)


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
