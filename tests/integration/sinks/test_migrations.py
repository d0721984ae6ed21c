"""Migrations against the real engine: idempotent, locked, recorded, and explained by comments."""

import json
import re
import threading
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.stack import ClickHouseAddress

from meterstream.schemas import rows, sketch
from meterstream.sinks.client import connect
from meterstream.sinks.errors import (
    MigrationChanged,
    MigrationError,
    MigrationLocked,
    SchemaOutdated,
)
from meterstream.sinks.lock import LOCK_TABLE, migration_lock
from meterstream.sinks.migrate import migrate, require_current
from meterstream.sinks.schema import migrations


@pytest.fixture
def client(clickhouse: ClickHouseAddress) -> Client:
    """Return a client on the server, in no database of a test."""
    return connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)


def test_a_second_run_applies_nothing(client: Client, database: str) -> None:
    """The first run names what it applied, the second has nothing to do."""
    assert migrate(client, database)[-1] == "views"
    assert migrate(client, database) == []
    require_current(client, database)


def test_many_at_once_leave_one_schema(clickhouse: ClickHouseAddress, database: str) -> None:
    """Processes that migrate at the same time wait for each other, and one does the work."""
    done: list[list[str]] = []

    def run() -> None:
        own = connect(clickhouse.url, user=clickhouse.user, password=clickhouse.password)
        done.append(migrate(own, database))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert sum(len(applied) for applied in done) == len(migrations()) + 1


def test_a_migration_that_was_cut_short_is_applied_again(client: Client, database: str) -> None:
    """What is not recorded is run once more, and does no harm to what is there."""
    migrate(client, database)
    client.command("DELETE FROM schema_migrations WHERE number IN (2, 8)")
    with pytest.raises(SchemaOutdated, match="meterstream migrate"):
        require_current(client, database)
    assert migrate(client, database) == ["0002_charges", "0008_organisations"]


def test_an_edited_migration_is_refused(client: Client, database: str) -> None:
    """A recorded hash that is not the file's stops everything."""
    migrate(client, database)
    client.command(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES (1, 'usage', 'other')"
    )
    with pytest.raises(MigrationChanged, match="0001_usage"):
        migrate(client, database)


def test_a_newer_database_is_refused(client: Client, database: str) -> None:
    """An older release does not touch what a newer one has migrated."""
    migrate(client, database)
    client.command(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES (999, 'later', 'x')"
    )
    with pytest.raises(MigrationError, match="at migration 999"):
        migrate(client, database)


def test_a_database_that_is_not_migrated_is_outdated(client: Client, database: str) -> None:
    """A sink does not start on an empty database."""
    with pytest.raises(SchemaOutdated):
        require_current(client, database)


@pytest.mark.parametrize("name", ["", "a b", "x`y", "9lives"])
def test_odd_names_are_refused(client: Client, name: str) -> None:
    """Names of databases and clusters are put into SQL, so they are plain."""
    with pytest.raises(MigrationError, match="no name"):
        migrate(client, name)
    with pytest.raises(MigrationError, match="no name"):
        migrate(client, "fine", cluster=name or " ")


def test_on_a_cluster_each_statement_is_valid(
    client: Client, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cluster to run them on, the engine at least parses the statements for one."""
    command, query, parsed = client.command, client.query, list[str]()

    def parse(sql: str, **options: Any) -> Any:
        if sql.startswith(("ALTER", "CREATE", "DROP", "RENAME")):
            parsed.append(sql)
            return command(f"EXPLAIN AST {sql}")
        return None if sql.startswith("INSERT") else command(sql, **options)

    def no_migrations(sql: str, **options: Any) -> Any:
        if "FROM schema_migrations" in sql:
            return SimpleNamespace(result_rows=[])
        if "FROM system.tables" in sql:
            made = next(sql for sql in parsed if LOCK_TABLE in sql)
            return SimpleNamespace(result_rows=[(re.findall(r"COMMENT '([^']*)'", made)[-1],)])
        return query(sql, **options)

    monkeypatch.setattr(client, "command", parse)
    monkeypatch.setattr(client, "query", no_migrations)
    done = migrate(client, database, cluster="main")
    assert done[-1] == "views"
    assert all("ON CLUSTER `main`" in sql for sql in parsed)
    assert {sql.split()[0] for sql in parsed} == {"ALTER", "CREATE", "DROP"}


def test_the_lock_names_its_holder(client: Client, database: str) -> None:
    """Who waits for the lock in vain learns who has it, and it is free again afterwards."""
    with (
        migration_lock(client, database),
        pytest.raises(MigrationLocked, match=r":\d+"),
        migration_lock(client, database, wait_s=0),
    ):
        raise AssertionError("two hold the lock")
    with migration_lock(client, database, wait_s=0):
        pass


def test_a_lease_that_ran_out_is_taken_over(client: Client, database: str) -> None:
    """A holder that was killed does not block others for ever, and does not free their lock."""
    stale = migration_lock(client, database, lease_s=-1)
    stale.__enter__()
    with migration_lock(client, database, wait_s=0):
        stale.__exit__(None, None, None)
        held = client.query(
            "SELECT comment FROM system.tables"
            " WHERE database = {database:String} AND name = {name:String}",
            parameters={"database": database, "name": LOCK_TABLE},
        ).result_rows
        assert json.loads(held[0][0])["token"]


def test_every_table_and_column_has_a_comment(migrated: Client, database: str) -> None:
    """DESCRIBE explains everything."""
    bare = migrated.query(
        "SELECT table, name FROM system.columns WHERE database = {database:String} AND comment = ''"
        " AND table NOT LIKE 'usage_by_%' AND table NOT IN ('usage_cells', 'unpriced_usage')",
        parameters={"database": database},
    ).result_rows
    assert bare == []
    tables = migrated.query(
        "SELECT name FROM system.tables WHERE database = {database:String} AND comment = ''"
        " AND engine != 'View'",
        parameters={"database": database},
    ).result_rows
    assert tables == []


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("usage_minutes", rows.CELL),
        ("usage_quarters", rows.CELL),
        ("usage_days", rows.CELL),
        ("sessions", rows.SESSION),
        ("charges", (*rows.CELL_KEY, *(c for c in rows.CHARGE if c.name != "cell"))),
        ("corrections", (*rows.CELL_KEY, *(c for c in rows.CORRECTION if c.name != "cell"))),
        ("accounts", rows.ACCOUNT),
        ("grants", rows.GRANT),
        ("draws", tuple(c for c in rows.DRAW if c.name != "charge")),
    ],
)
def test_declared_columns_are_as_the_contract_says(
    migrated: Client, database: str, table: str, columns: tuple[rows.Column, ...]
) -> None:
    """Names, types and comments of the journal's columns are those of `schemas.rows`."""
    found = {
        name: (kind.replace("LowCardinality(String)", "String"), comment)
        for name, kind, comment in migrated.query(
            "SELECT name, type, comment FROM system.columns"
            " WHERE database = {database:String} AND table = {table:String}",
            parameters={"database": database, "table": table},
        ).result_rows
    }
    types = {
        "text": "String",
        "int64": "Int64",
        "int32": "Int32",
        "uint8": "UInt8",
        "seconds": "DateTime('UTC')",
        "microseconds": "DateTime64(6, 'UTC')",
        "sketch": "Map(Int16, Int64)",
    }
    for column in columns:
        assert found[column.name] == (types[column.kind], column.comment)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(
        st.integers(0, sketch.BUCKETS - 1), st.integers(-3, 10**9), min_size=0, max_size=40
    ),
    level_ppm=st.integers(0, 1_000_000),
)
def test_the_sql_function_is_the_sketch_of_the_contract(
    clickhouse: ClickHouseAddress, counts: dict[int, int], level_ppm: int
) -> None:
    """In SQL a sketch and a level give what `schemas.sketch.quantile` gives."""
    client = _shared(clickhouse)
    found = client.query(
        "SELECT sketchQuantile(mapFromArrays({buckets:Array(Int16)}, {counts:Array(Int64)}),"
        " {level:Float64})",
        parameters={
            "buckets": list(counts),
            "counts": list(counts.values()),
            "level": level_ppm / 1_000_000,
        },
    ).result_rows
    assert found[0][0] == sketch.quantile(counts, Fraction(level_ppm, 1_000_000))


_CLIENTS: dict[str, Client] = {}


def _shared(address: ClickHouseAddress) -> Client:
    """Return a client on a server that has the functions; one for all examples."""
    if address.url not in _CLIENTS:
        client = connect(address.url, user=address.user, password=address.password)
        migrate(client, "functions")
        _CLIENTS[address.url] = client
    return _CLIENTS[address.url]
