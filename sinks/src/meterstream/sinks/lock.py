"""A lock among processes that migrate one database.

ClickHouse has no locks for clients, but creating a table is atomic: of two that create the same
one, one is refused. The lock is such a table. Its comment names the holder and the end of the
lease; a lease that ran out is taken over by renaming the table away, under a name that only this
one lease has, so that two that try it cannot both succeed.
"""

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from .client import error_code
from .errors import MigrationLocked

LOCK_TABLE: Final = "schema_migrations_lock"
LEASE_S: Final = 300
"""Longer than all migrations together take; a holder that was killed blocks others so long."""

_TABLE_ALREADY_EXISTS: Final = 57
_UNKNOWN_TABLE: Final = 60
_POLL_S: Final = 0.5

log = logging.getLogger(__name__)


@contextmanager
def migration_lock(
    client: Client,
    database: str,
    on_cluster: str = "",
    *,
    lease_s: int = LEASE_S,
    wait_s: float = 60,
) -> Iterator[None]:
    """Hold the lock of `database` within the block, for `lease_s` seconds at most.

    Waits up to `wait_s` seconds for another holder, then raises MigrationLocked and names it.
    """
    token = secrets.token_hex(8)
    deadline = time.monotonic() + wait_s
    while not _take(client, database, on_cluster, token, lease_s):
        holder = _holder(client, database)
        if holder is not None and _expired(client, holder):
            _push_aside(client, database, on_cluster, holder["token"])
        elif time.monotonic() >= deadline:
            raise MigrationLocked(
                f"{database} is being migrated by {holder and holder['owner']}; wait for it, or, if"
                f" that process is gone, try again when its lease of {lease_s} s has run out"
            )
        else:
            time.sleep(_POLL_S)
    try:
        yield
    finally:
        _give_back(client, database, on_cluster, token)


def _now(client: Client) -> int:
    return int(client.command("SELECT toUnixTimestamp(now())"))  # type: ignore[arg-type]


def _take(client: Client, database: str, on_cluster: str, token: str, lease_s: int) -> bool:
    lease = json.dumps(
        {
            "owner": f"{socket.gethostname()}:{os.getpid()}",
            "token": token,
            "until": _now(client) + lease_s,
        }
    )
    try:
        client.command(
            f"CREATE TABLE `{database}`.{LOCK_TABLE} {on_cluster} (held UInt8"
            " COMMENT 'Unused: the table itself is the lock')"
            f" ENGINE = MergeTree ORDER BY held COMMENT '{lease}'"
        )
    except DatabaseError as error:
        if error_code(error) == _TABLE_ALREADY_EXISTS:
            return False
        raise
    return True


def _holder(client: Client, database: str) -> dict[str, str] | None:
    found = client.query(
        "SELECT comment FROM system.tables"
        " WHERE database = {database:String} AND name = {name:String}",
        parameters={"database": database, "name": LOCK_TABLE},
    ).result_rows
    if not found:
        return None
    holder: dict[str, str] = json.loads(found[0][0])
    return holder


def _expired(client: Client, holder: dict[str, str]) -> bool:
    return int(holder["until"]) < _now(client)


def _push_aside(client: Client, database: str, on_cluster: str, token: str) -> None:
    log.warning("the lease on the migrations of %s ran out; taking it over", database)
    aside = f"{LOCK_TABLE}_expired_{token}"
    try:
        client.command(
            f"RENAME TABLE `{database}`.{LOCK_TABLE} TO `{database}`.{aside} {on_cluster}"
        )
    except DatabaseError as error:
        # Somebody else was faster.
        if error_code(error) not in (_TABLE_ALREADY_EXISTS, _UNKNOWN_TABLE):
            raise


def _give_back(client: Client, database: str, on_cluster: str, token: str) -> None:
    holder = _holder(client, database)
    if holder is not None and holder["token"] == token:
        client.command(f"DROP TABLE IF EXISTS `{database}`.{LOCK_TABLE} {on_cluster} SYNC")
