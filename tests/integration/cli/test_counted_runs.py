"""Runs are found in ClickHouse, each once, however many pages there are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import EVENTS_TOPIC_ID
from tests.support.stack import ClickHouseAddress

from meterstream.cli.corrections import runs
from meterstream.cli.corrections.runs import count_runs, find_run, runs_between
from meterstream.cli.errors import BadInput
from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def counted(clickhouse: ClickHouseAddress, database: str) -> Iterator[Client]:
    """Return a client whose database has 10 completed runs of two teams, each stored twice."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    migrate(client, database)
    for version in (1, 2):
        client.command(
            "INSERT INTO runs (event_offset, event_time, event_type, source, event_id, team_id,"
            " run_id, operation, status, started_at, ended_at, input_tokens, card, credits_micro,"
            " events_topic_id, generation, partition, log_time, version)"
            " SELECT number, {start:DateTime64(6)} + toIntervalMicrosecond(intDiv(number, 4)),"
            " 'completed', '/s', concat('e-', toString(number)),"
            " concat('t-', toString(number % 2)),"
            " concat('r-', toString(intDiv(number, 2))), 'agent_run',"
            " if(number = 3, 'failed', 'completed'), {start:DateTime64(6)} - 1,"
            " {start:DateTime64(6)}, number, if(number < 5, 'unpriced', 'default@1'), number,"
            " {topic:UUID}, 1, number % 2, now(), {version:UInt64} FROM numbers(10)",
            parameters={"start": START, "topic": str(EVENTS_TOPIC_ID), "version": version},
        )
    yield client
    client.close()


def test_pages_hold_each_run_once(counted: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one team and moment are neither left out nor told twice where a page ends."""
    monkeypatch.setattr(runs, "PAGE", 3)
    until = START + timedelta(seconds=1)
    pages = list(runs_between(counted, START, until, None, unpriced=False))
    found = [run for page in pages for run in page]
    assert sorted(run.event_id for run in found) == [f"e-{number}" for number in range(10)]
    assert [run.team_id for run in found] == ["t-0"] * 5 + ["t-1"] * 5
    assert count_runs(counted, START, until, "t-1", unpriced=True) == 2
    unpriced = runs_between(counted, START, until, "t-1", unpriced=True)
    assert [run.event_id for page in unpriced for run in page] == ["e-1", "e-3"]
    assert count_runs(counted, START, START, None, unpriced=False) == 0


def test_a_run_is_found_by_its_name(counted: Client) -> None:
    """Its amounts are those it was counted with; a name of several asks for the team."""
    run = find_run(counted, "r-1", "t-1")
    assert (run.event_id, run.amounts["errors"], run.amounts["unpriced_runs"]) == ("e-3", 1, 1)
    assert run.amounts["duration_us"] == 1_000_000
    assert run.time_us == int(START.timestamp()) * 1_000_000
    with pytest.raises(BadInput, match="2 events name a run 'r-1'"):
        find_run(counted, "r-1", None)
    assert find_run(counted, "r-1", None, "e-2").team_id == "t-0"
    with pytest.raises(BadInput, match="there is no run"):
        find_run(counted, "r-1' OR 1", "t-1")
