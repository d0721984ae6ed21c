"""Brings a database to the schema of this release."""

import hashlib
import logging
import re
from typing import Final

from clickhouse_connect.driver.client import Client

from .client import require_version
from .errors import MigrationChanged, MigrationError, SchemaOutdated
from .lock import migration_lock
from .schema import Migration, definitions, migrations, statements

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_RECORD: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations ${on_cluster}
(
    number UInt32 COMMENT 'Number of the migration; 0 stands for the views and functions',
    name String COMMENT 'Name of the migration',
    sha256 String COMMENT 'Hash of its SQL',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was applied',
    version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6)) COMMENT 'The latest row counts'
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY number
COMMENT 'The migrations that were applied to this database.';
"""
_DEFINITIONS: Final = 0
"""The number under which the hash of views and functions is recorded."""

log = logging.getLogger(__name__)


def migrate(client: Client, database: str, cluster: str | None = None) -> list[str]:
    """Create `database` if need be, apply what it lacks, and return the names of what was applied.

    May be called at any time, by any number of processes. With `cluster` all tables are
    replicated, and everything is made ON CLUSTER. Raises MigrationError, ClickHouseTooOld, and the
    driver's errors; a migration that failed half way is applied again by the next call.
    """
    _require_name(database)
    if cluster:
        _require_name(cluster)
    require_version(client)
    on_cluster = f"ON CLUSTER `{cluster}`" if cluster else ""
    client.command(f"CREATE DATABASE IF NOT EXISTS `{database}` {on_cluster}")
    client.database = database
    if _is_current(client):
        return []
    with migration_lock(client, database, on_cluster):
        for statement in statements(_RECORD, cluster):
            client.command(statement)
        return _apply(client, cluster)


def require_current(client: Client, database: str) -> None:
    """Raise SchemaOutdated if `database` lacks a migration or holds other views than these."""
    client.database = database
    if not _is_current(client):
        raise SchemaOutdated(
            f"the database {database} lacks migrations of this release: run `meterstream migrate`"
        )


def _apply(client: Client, cluster: str | None) -> list[str]:
    applied = _applied(client)
    done = []
    for migration in migrations():
        if migration.number in applied:
            _require_unchanged(migration, applied[migration.number])
            continue
        log.info("applying migration %04d %s", migration.number, migration.name)
        for statement in statements(migration.sql, cluster):
            client.command(statement)
        _record(client, migration.number, migration.name, migration.sha256)
        done.append(f"{migration.number:04d}_{migration.name}")
    if applied.get(_DEFINITIONS) != _definitions_sha256():
        for statement in statements(definitions(), cluster):
            client.command(statement)
        _record(client, _DEFINITIONS, "views", _definitions_sha256())
        done.append("views")
    return done


def _is_current(client: Client) -> bool:
    if not client.command("EXISTS TABLE schema_migrations"):
        return False
    applied = _applied(client)
    for migration in migrations():
        if migration.number not in applied:
            return False
        _require_unchanged(migration, applied[migration.number])
    newest = max(applied)
    if newest > len(migrations()):
        raise MigrationError(
            f"the database is at migration {newest}, this release knows {len(migrations())}:"
            " install the release that migrated it, or a newer one"
        )
    return applied.get(_DEFINITIONS) == _definitions_sha256()


def _applied(client: Client) -> dict[int, str]:
    rows = client.query("SELECT number, sha256 FROM schema_migrations FINAL").result_rows
    return {int(number): str(sha256) for number, sha256 in rows}


def _require_unchanged(migration: Migration, applied_sha256: str) -> None:
    if migration.sha256 != applied_sha256:
        raise MigrationChanged(
            f"migration {migration.number:04d}_{migration.name} was applied with other SQL than"
            " this release holds: undo the edit, and put the change into a new migration"
        )


def _definitions_sha256() -> str:
    return hashlib.sha256(definitions().encode()).hexdigest()


def _record(client: Client, number: int, name: str, sha256: str) -> None:
    client.command(
        "INSERT INTO schema_migrations (number, name, sha256)"
        " SELECT {number:UInt32}, {name:String}, {sha256:String}",
        parameters={"number": number, "name": name, "sha256": sha256},
    )


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise MigrationError(
            f"{name!r} is no name for a database or cluster: use letters, digits, _ and -"
        )
