"""What is left of grants, from ClickHouse."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(frozen=True, slots=True)
class Left:
    """Where a grant stands. Amounts in micro-credits."""

    status: str
    """waiting, open or closed."""
    left_micro: int
    expired_micro: int
    rolled_over_micro: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The grants that ClickHouse knows, by team and id."""

    grants: Mapping[tuple[str, str], Left]
    until: datetime | None
    """When the newest journal record was written that it has; None for none."""


def read_left(client: "Client", team_id: str | None) -> Stored:
    """Return what is left of the grants of a team, or of all."""
    where = "WHERE team_id = {team:String}" if team_id else ""
    rows = client.query(
        "SELECT team_id, grant_id, status, left_micro, expired_micro, rolled_over_micro"  # noqa: S608
        f" FROM grants FINAL {where}",
        parameters={"team": team_id or ""},
    ).result_rows
    ((count, newest_us),) = client.query(
        "SELECT count(), toUnixTimestamp64Micro(max(log_time)) FROM ledger"
    ).result_rows
    until = datetime.fromtimestamp(newest_us // 1_000_000, UTC) if count else None
    return Stored({(str(row[0]), str(row[1])): Left(str(row[2]), *row[3:]) for row in rows}, until)
