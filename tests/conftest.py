"""What all tests share: a real broker, a real ClickHouse, and a place of one's own on them."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, settings
from tests.support import stack

_PURE = ("unit", "property", "contract")
_STACK_FIXTURES = frozenset(
    {"kafka", "clickhouse", "prefix", "database", "ch_client", "own_kafka", "own_clickhouse"}
)
_ADMIN_TIMEOUT_S = 30

# A busy machine is slow, and that is no failure of what is tested.
settings.register_profile(
    "meterstream",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "meterstream"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse pure tests that would start a broker or a database."""
    root = Path(__file__).parent
    for item in items:
        part = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        used = _STACK_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if part in _PURE and used:
            raise pytest.UsageError(
                f"{item.nodeid} uses {', '.join(sorted(used))}: tests in tests/{part} run without "
                "Kafka and ClickHouse; move it to tests/integration"
            )


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Return the bootstrap address of a real broker; topics of a test start with `prefix`."""
    with stack.shared_kafka() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[stack.ClickHouseAddress]:
    """Return the address of a real ClickHouse server; tables of a test go into `database`."""
    with stack.shared_clickhouse() as address:
        yield address


@pytest.fixture
def prefix(kafka: str) -> Iterator[str]:
    """Return a topic prefix that only this test uses; its topics are deleted afterwards."""
    own = f"t{uuid.uuid4().hex[:12]}."
    yield own
    admin = AdminClient({"bootstrap.servers": kafka})
    topics = [
        name for name in admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics if name.startswith(own)
    ]
    if topics:
        for deleted in admin.delete_topics(topics, operation_timeout=_ADMIN_TIMEOUT_S).values():
            deleted.result(_ADMIN_TIMEOUT_S)


@pytest.fixture
def database(clickhouse: stack.ClickHouseAddress) -> Iterator[str]:
    """Return the name of an empty database that only this test uses; it is dropped afterwards."""
    own = f"t{uuid.uuid4().hex[:12]}"
    client = clickhouse.client()
    client.command(f"CREATE DATABASE {own}")
    yield own
    client.command(f"DROP DATABASE {own} SYNC")
    client.close()


@pytest.fixture
def ch_client(clickhouse: stack.ClickHouseAddress, database: str) -> Iterator[Client]:
    """Return a client that works in this test's database."""
    client = clickhouse.client(database)
    yield client
    client.close()


@pytest.fixture
def own_kafka() -> Iterator[stack.OwnKafka]:
    """Return a broker of this test's own, to stop, kill and start."""
    with stack.own_kafka() as broker:
        yield broker


@pytest.fixture
def own_clickhouse() -> Iterator[stack.OwnClickHouse]:
    """Return a ClickHouse server of this test's own, to stop, kill and start."""
    with stack.own_clickhouse() as server:
        yield server
