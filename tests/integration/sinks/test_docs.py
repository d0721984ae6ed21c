"""docs/clickhouse.md against the real engine: its queries run, and it leaves no table out."""

import re
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import TODAY_US, Writer, cell, crossing, decoded, limit

from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.flush import flush
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore

TEXT = (Path(__file__).parents[3] / "docs" / "clickhouse.md").read_text("utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
HISTORY = (
    (
        "INSERT INTO runs (team_id, run_id, event_type, event_time, log_time)"
        " SELECT 'team-1', 'r-1', 'completed', now(), now()"
    ),
    (
        "INSERT INTO agent_sessions_daily (day, team_id, agent_id, session_id)"
        " SELECT today(), 'team-1', 'a-1', 's-1'"
    ),
)
"""What the history feed would store, since the queries of the page ask for it too."""


@pytest.fixture
def filled(migrated: Client, store: ClickHouseStore) -> Client:
    """Return a client on a database with some usage of today."""
    writer, state = Writer(), PartitionState(0)
    records = [
        writer.genesis(TODAY_US),
        writer.step(
            [
                cell(
                    TODAY_US,
                    user_id="u-1",
                    agent_id="a-1",
                    model="m-1",
                    feature_id="feature-1",
                    project_id="project-1",
                    credits_micro=5,
                )
            ],
            charges=[
                {"event_offset": 0, "event_time": TODAY_US, "card": "default@1", "credits_micro": 5}
            ],
            verdicts=[Verdict.COUNTED, Verdict.NOT_JSON],
            limits=[limit(TODAY_US)],
            crossings=[crossing(TODAY_US, kind="blocked")],
        ),
    ]
    for one in decoded(*records):
        state.add(one)
    flush([state], store, lambda links: None, now_us=0)
    for statement in HISTORY:
        migrated.command(statement)
    return migrated


def test_there_are_twelve_queries() -> None:
    """The page says twelve."""
    assert len(QUERIES) == 12


def test_each_query_runs_and_answers(filled: Client) -> None:
    """The queries of the page run as they stand, and find the usage that is there."""
    for query in QUERIES:
        sql = query.replace("now() - INTERVAL 1 HOUR", f"toDateTime({TODAY_US // 1_000_000})")
        assert filled.query(sql).result_rows, sql


def test_each_view_has_every_window(filled: Client) -> None:
    """There is a view by each dimension, and it shows the run in windows of every size."""
    names = {
        "team_id": "team-1",
        "user_id": "u-1",
        "agent_id": "a-1",
        "model": "m-1",
        "feature_id": "feature-1",
        "project_id": "project-1",
    }
    for key, name in names.items():
        for window in ("1m", "15m", "1h", "1d", "1mo"):
            rows = filled.query(
                f"SELECT {key}, runs, credits_micro FROM usage_by_{key.removesuffix('_id')}("
                f"window = '{window}', zone = 'Asia/Kathmandu', since = '', until = '')"
            ).result_rows
            assert rows == [(name, 1, 5)], (key, window)


def test_every_table_and_view_is_on_the_page(migrated: Client, database: str) -> None:
    """What an analyst sees in the database is explained."""
    names = migrated.query(
        "SELECT name FROM system.tables WHERE database = {database:String}",
        parameters={"database": database},
    ).result_rows
    missing = [name for (name,) in names if f"`{name}`" not in TEXT]
    assert missing == []
