"""A flush that fails at any of its steps is tried again, and every number is as if it had not."""

import uuid
from collections.abc import Iterator

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import DAY_US, MINUTE_US, TODAY_US, Writer, cell, decoded
from tests.support.stack import ClickHouseAddress

from meterstream.schemas.journal import Link
from meterstream.sinks.client import connect
from meterstream.sinks.closing import Closing
from meterstream.sinks.flush import flush
from meterstream.sinks.migrate import migrate
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore, Refused

YESTERDAY_US = TODAY_US - DAY_US

STEPS = (
    "watermarks of new lineages",
    "minutes",
    "charges",
    "late minutes",
    "late quarters",
    "late days",
    "sessions",
    "closing",
    "watermarks",
    "ledger",
    "positions",
    "commit",
)
TABLES = (
    "usage_minutes",
    "usage_quarters",
    "usage_days",
    "watermarks",
    "charges",
    "sessions",
    "ledger",
    "positions",
)


class Broken(Exception):
    """The failure that the double makes."""


class FailingStore:
    """The real store, but for one call: it fails before or after that call has done its work."""

    def __init__(self, store: ClickHouseStore, failing_call: int, *, after: bool) -> None:
        self.store = store
        self.failing_call = failing_call
        self.after = after
        self.calls: list[str] = []

    def insert(self, target: str, table: pa.Table) -> list[Refused]:
        """Insert, or fail."""
        self._enter(target)
        refused = self.store.insert(target, table)
        self._leave()
        return refused

    def close(self, closing: Closing) -> None:
        """Close, or fail."""
        self._enter("closing")
        self.store.close(closing)
        self._leave()

    def commit(self, links: dict[int, Link]) -> None:
        """Take the links, or fail."""
        self._enter("commit")
        self._leave()

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) - 1 == self.failing_call and not self.after:
            raise Broken

    def _leave(self) -> None:
        if len(self.calls) - 1 == self.failing_call and self.after:
            raise Broken


def state() -> PartitionState:
    """Return a partition whose pending records need every step of the flush."""
    writer = Writer()
    made = PartitionState(0)
    records = [
        writer.genesis(YESTERDAY_US),
        writer.step(
            [cell(YESTERDAY_US, runs=1), cell(YESTERDAY_US + 20 * MINUTE_US, runs=10)],
            charges=[
                {"event_offset": at, "event_time": YESTERDAY_US, "credits_micro": 5}
                for at in range(11)
            ],
            sessions=[{"team_id": "team-1", "session_id": "s-1", "status": "active"}],
        ),
        writer.idle(YESTERDAY_US + 26 * MINUTE_US),
        writer.step(
            [cell(YESTERDAY_US + 20 * MINUTE_US, runs=12)], late=[cell(YESTERDAY_US, runs=100)]
        ),
        writer.idle(TODAY_US + 11 * MINUTE_US),
    ]
    for one in decoded(*records):
        made.add(one)
    return made


def contents(client: Client) -> dict[str, object]:
    """Return all rows of all tables, as they count, and the usage that the view gives."""
    found: dict[str, object] = {
        table: sorted(map(repr, client.query(f"SELECT * FROM {table} FINAL").result_rows))
        for table in TABLES
    }
    found["usage"] = client.query(
        "SELECT window_start, runs, credits_micro, latency_sketch FROM usage_by_team("
        "window = '1h', zone = 'UTC', since = '', until = '') ORDER BY window_start"
    ).result_rows
    return found


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouseAddress) -> Iterator[Client]:
    """Return a client on tables that the tests of this file share; each begins by emptying them."""
    client = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
    name = f"t{uuid.uuid4().hex[:12]}"
    migrate(client, name)
    yield client
    client.command(f"DROP DATABASE {name} SYNC")
    client.close()


def empty(client: Client) -> None:
    """Empty all tables."""
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {table}")


@pytest.fixture(scope="module")
def expected(tables: Client) -> dict[str, object]:
    """Return what is there after a flush that did not fail."""
    run(FailingStore(ClickHouseStore(tables, lambda: 0), -1, after=False))
    return contents(tables)


def run(store: FailingStore) -> None:
    """Flush as the feed does: again after a failure, with what is pending still."""
    pending = state()
    for _ in range(2):
        try:
            flush([pending], store, store.commit, now_us=0)  # type: ignore[arg-type]
        except Broken:
            assert pending.pending, "what is not stored stays pending"
        else:
            assert not pending.pending
            return
    raise AssertionError("the second try does not fail")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("failing", range(len(STEPS)), ids=STEPS)
def test_a_flush_tried_again_changes_nothing(
    tables: Client, expected: dict[str, object], failing: int, after: bool
) -> None:
    """Whatever step fails, before or after its work, the rows are those of a flush without it."""
    empty(tables)
    double = FailingStore(ClickHouseStore(tables, lambda: 0), failing, after=after)
    run(double)
    assert len(double.calls) == len(STEPS) + failing + 1, (
        "the numbered steps, and those tried again"
    )
    got = contents(tables)
    assert got == expected
    assert [row[1] for row in got["usage"]] == [113]  # type: ignore[attr-defined]
