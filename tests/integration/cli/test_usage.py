"""`meterstream usage` of a time whose small windows are no longer kept."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import EVENTS_TOPIC_ID
from tests.support.stack import ClickHouseAddress

from meterstream.cli.errors import BadInput
from meterstream.cli.usage_query import UsageQuery, ask_usage
from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate

NOW = datetime.now(UTC).replace(minute=7, second=0, microsecond=0)


@pytest.fixture
def old_usage(clickhouse: ClickHouseAddress, database: str) -> Iterator[Client]:
    """Return a client whose database has a run a day 60 and 500 days ago, in rows that are kept."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    migrate(client, database)
    topic = {"topic": str(EVENTS_TOPIC_ID)}
    columns = "(window_start, team_id, runs, events_topic_id, generation, partition, log_time)"
    for table, days, rounded in (
        ("usage_days", 60, "toStartOfDay"),
        ("usage_days", 500, "toStartOfDay"),
        ("usage_quarters", 60, "toStartOfFifteenMinutes"),
    ):
        at_s = int((NOW - timedelta(days=days)).timestamp())
        client.command(
            f"INSERT INTO {table} {columns} SELECT {rounded}(toDateTime({at_s}, 'UTC')), 't', 1,"
            f" {{topic:UUID}}, 1, 0, {at_s + 86_400}",
            parameters=topic,
        )
    client.command(
        "INSERT INTO watermarks (events_topic_id, generation, partition, quarter_closed_until,"
        " day_closed_until) SELECT {topic:UUID}, 1, 0, toStartOfDay(now()), toStartOfDay(now())",
        parameters=topic,
    )
    yield client
    client.close()


def test_usage_is_read_in_windows_that_are_kept(old_usage: Client) -> None:
    """Without a window larger ones are taken and named; one that was asked for is refused."""
    for days, runs, window, gone in (
        (1, 0, "1m", ""),
        (60, 1, "15m", "minutes are kept for 40 days"),
        (500, 2, "1d", "quarters of an hour are kept for 400 days"),
    ):
        since = NOW - timedelta(days=days)
        usage = ask_usage(old_usage, UsageQuery("team", since=since))
        assert sum(row["runs"] for row in usage.rows) == runs
        assert (usage.reading.window, usage.gone) == (window, gone)
    for window, days, larger in (
        ("1m", 60, "15m or more"),
        ("1h", 500, "1d or 1mo with --zone UTC"),
    ):
        query = UsageQuery("team", window=window, since=NOW - timedelta(days=days))
        with pytest.raises(
            BadInput, match=f"--window {window} reaches back .* take --window {larger}"
        ):
            ask_usage(old_usage, query)
