"""What a meter asks the ledger in ClickHouse, which it does only where its journal cannot tell."""

from pathlib import Path
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.command import run_command
from tests.support.services import create_topics
from tests.support.stack import ClickHouseAddress

from meterstream.cli.ledger import read_ledger
from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate
from meterstream.streams.journal import Counted, LedgerUnavailable

TOPIC = UUID(int=5)


def insert(
    client: Client,
    database: str,
    topic: UUID,
    rows: list[tuple[int, int, int]],
    ledger: str = "ledger",
) -> None:
    """Write ledger rows of partition 0: generation, journal offset, events position after it."""
    client.insert(
        ledger,
        [[str(topic), 0, *row, 1] for row in rows],
        ["events_topic_id", "partition", "generation", "journal_offset", "events_to", "version"],
        database=database,
    )


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, clickhouse: ClickHouseAddress, database: str
) -> dict[str, str]:
    """Return what points a service at this test's database, set in this process too."""
    env = {
        "METERSTREAM_CLICKHOUSE_URL": clickhouse.url,
        "METERSTREAM_CLICKHOUSE_USER": clickhouse.user,
        "METERSTREAM_CLICKHOUSE_PASSWORD": clickhouse.password,
        "METERSTREAM_CLICKHOUSE_DATABASE": database,
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


def test_the_newest_record_of_the_newest_generation(
    environment: dict[str, str], clickhouse: ClickHouseAddress, database: str
) -> None:
    """Of each partition and topic it is found; where nothing was migrated, nothing was counted."""
    assert read_ledger(TOPIC, 0) is None
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    migrate(client, database)
    insert(client, database, TOPIC, [(1, 7, 900), (1, 90, 950), (2, 3, 40), (2, 12, 45)])
    insert(client, database, UUID(int=7), [(3, 1, 2)], "organisation_ledger")
    client.close()
    assert read_ledger(UUID(int=7), 0) == Counted(3, 1, 2)
    assert read_ledger(TOPIC, 0) == Counted(2, 12, 45)
    assert read_ledger(TOPIC, 1) is None
    assert read_ledger(UUID(int=6), 0) is None


def test_a_clickhouse_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says where it was looked for, and what names another."""
    monkeypatch.setenv("METERSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:1")
    with pytest.raises(LedgerUnavailable, match=r"http://127\.0\.0\.1:1.*METERSTREAM_CLICKHOUSE_U"):
        read_ledger(TOPIC, 0)
    monkeypatch.setenv("METERSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:no")
    with pytest.raises(LedgerUnavailable, match="METERSTREAM_CLICKHOUSE_URL: Port could not be"):
        read_ledger(TOPIC, 0)


def test_the_command_asks_it(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A new generation that needs ClickHouse ends with one line where there is none."""
    create_topics(kafka, prefix, 1)
    env = {
        "METERSTREAM_KAFKA_BOOTSTRAP": kafka,
        "METERSTREAM_TOPIC_PREFIX": prefix,
        "METERSTREAM_CLICKHOUSE_URL": "http://127.0.0.1:1",
    }
    ran = run_command("meter", "--new-generation", env=env, cwd=tmp_path)
    assert ran.exit_code == 2
    (line,) = (text for text in ran.stderr.splitlines() if text.startswith("meterstream meter: "))
    assert "no ClickHouse server answers at http://127.0.0.1:1" in line
