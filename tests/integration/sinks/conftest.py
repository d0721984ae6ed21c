"""What tests of the sinks share: a migrated database and the store that writes into it."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.stack import ClickHouseAddress

from meterstream.sinks.client import connect
from meterstream.sinks.migrate import migrate
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
