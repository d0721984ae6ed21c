"""What tests of the sinks share: a migrated database and the store that writes into it."""

from collections.abc import Callable, Iterator

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.stack import ClickHouseAddress

from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate
from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings, load_settings
from meterstream.sinks.store import ClickHouseStore


@pytest.fixture
def migrated(clickhouse: ClickHouseAddress, database: str) -> Iterator[Client]:
    """Return a client whose database holds all tables and views."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    migrate(client, database)
    yield client
    client.close()


@pytest.fixture
def store(migrated: Client) -> ClickHouseStore:
    """Return the store of the migrated database."""
    return ClickHouseStore(migrated, lambda: 0)


@pytest.fixture
def settings(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, migrated: Client
) -> SinkSettings:
    """Return settings for a sink on this test's topics and tables, with quick flushes."""
    del migrated
    return load_settings(
        kafka_bootstrap=kafka,
        topic_prefix=prefix,
        clickhouse_url=clickhouse.url,
        clickhouse_user=clickhouse.user,
        clickhouse_password=clickhouse.password,
        clickhouse_database=database,
        sink_flush_ms=50,
        sink_history_flush_ms=50,
        sink_idle_flush_ms=50,
        sink_feeds="cells",
    )


@pytest.fixture
def run_sink() -> Iterator[Callable[[SinkSettings], Service]]:
    """Return a function that starts a sink in this process; all are stopped at the end."""
    started: list[Service] = []

    def start(settings: SinkSettings) -> Service:
        service = Service(settings)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()
        service.wait()
