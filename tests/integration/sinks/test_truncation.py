"""Which rows go where the journal was cut: those of lost records, and no others."""

import time
from collections.abc import Iterable
from uuid import UUID

from clickhouse_connect.driver.client import Client

from meterstream.schemas.journal import Link
from meterstream.sinks.positions import CELLS, HISTORY, ORGANISATIONS
from meterstream.sinks.record import GENERATION_FACTOR
from meterstream.sinks.start import Kept
from meterstream.sinks.truncation import (
    CELLS_TABLES,
    HISTORY_TABLES,
    ORGANISATIONS_TABLES,
    remove_rows_after,
)

TOPIC, LATER_TOPIC, OLD_TOPIC, OLDER_TOPIC = (str(UUID(int=number)) for number in range(1, 5))
CUT = Kept(Link(5, 4, 2, 0, 0), 0, UUID(TOPIC))
BEGINNINGS = {
    (TOPIC, 2): 100,
    (TOPIC, 3): 200,
    (LATER_TOPIC, 4): 300,
    (OLD_TOPIC, 2): 20,
    (OLD_TOPIC, 3): 30,
    (OLDER_TOPIC, 1): 10,
}
"""When each lineage began, in seconds from now: the old topics are those of an earlier Kafka."""


def write(client: Client, tables: Iterable[str], organisation_id: str = "") -> None:
    """Store a row of each journal offset from 0 to 9 of each lineage in the tables."""
    now_s = int(time.time())
    for table in tables:
        names = [row[0] for row in client.query(f"DESCRIBE TABLE {table}").result_rows]
        key = {"session_id", "team_id", "event_offset", "journal_offset", "late"} & set(names)
        rows = []
        for number, ((topic_id, generation), began_s) in enumerate(BEGINNINGS.items()):
            for offset in range(10):
                row: dict[str, object] = {
                    "events_topic_id": topic_id,
                    "generation": generation,
                    "partition": 0,
                    "version": generation * GENERATION_FACTOR + offset,
                    "log_time": now_s + began_s + offset,
                }
                row |= {
                    name: str(number * 10 + offset) if name.endswith("_id") else offset
                    for name in key
                }
                if "organisation_id" in names:
                    row["organisation_id"] = organisation_id
                rows.append([row[name] for name in names if name in row])
                columns = [name for name in names if name in row]
        values = ",".join(str(tuple(row)) for row in rows)
        client.command(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}")


def left(client: Client, table: str) -> dict[tuple[str, int], int]:
    """Return how many rows of each lineage are left."""
    found = client.query(
        f"SELECT toString(events_topic_id), generation, count() FROM {table} GROUP BY ALL"
    ).result_rows
    return {(topic_id, generation): count for topic_id, generation, count in found}


def test_rows_of_an_earlier_kafka_stay_and_those_of_lost_records_go(migrated: Client) -> None:
    """Whichever feed removes its rows first; a watermark is one row, of its last record."""
    write(migrated, dict.fromkeys((*CELLS_TABLES, *HISTORY_TABLES)))
    remove_rows_after(migrated, CELLS, CELLS_TABLES, 0, CUT)
    remove_rows_after(migrated, HISTORY, HISTORY_TABLES, 0, CUT)
    # The lost generations keep rows up to the cut's offset, which a real journal would not have.
    expected = dict.fromkeys(BEGINNINGS, 10) | dict.fromkeys(
        [(TOPIC, 2), (TOPIC, 3), (LATER_TOPIC, 4)], 5
    )
    for table in {*CELLS_TABLES, *HISTORY_TABLES} - {"watermarks"}:
        assert left(migrated, table) == expected, table
    old = {lineage: 1 for lineage in BEGINNINGS if lineage[0] in (OLD_TOPIC, OLDER_TOPIC)}
    assert left(migrated, "watermarks") == old


def test_each_stage_removes_its_own_rows(migrated: Client) -> None:
    """What one journal lost takes nothing of what the other one's meter has decided."""
    write(migrated, ORGANISATIONS_TABLES, "acme-group")
    remove_rows_after(migrated, CELLS, CELLS_TABLES, 0, CUT)
    for table in ORGANISATIONS_TABLES:
        assert left(migrated, table) == dict.fromkeys(BEGINNINGS, 10), table
    write(migrated, CELLS_TABLES)
    remove_rows_after(migrated, ORGANISATIONS, ORGANISATIONS_TABLES, 0, CUT)
    lost = dict.fromkeys([(TOPIC, 2), (TOPIC, 3), (LATER_TOPIC, 4)], 5)
    expected = dict.fromkeys(BEGINNINGS, 10) | lost
    assert left(migrated, "organisation_ledger") == expected
    for table in ("limit_states", "thresholds"):
        assert left(migrated, table) == {key: 10 + count for key, count in expected.items()}, table
    assert left(migrated, "ledger") == dict.fromkeys(BEGINNINGS, 10)
