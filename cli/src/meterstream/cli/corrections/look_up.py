"""A run in ClickHouse with the corrections of the control topic, and what paid for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from meterstream.cli.connection import Connection
from meterstream.cli.server import open_clickhouse

from .known import NONE, Made, read_corrections
from .runs import CountedRun, find_run

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def look_up(
    connection: Connection, data: Path | None, run_id: str, team: str | None, event: str | None
) -> tuple[CountedRun, Made]:
    """Return a run and its corrections; BadInput where there is none, or several."""
    with open_clickhouse(data) as client:
        run = find_run(client, run_id, team, event)
    return run, read_corrections(connection, run.team_id).get(run.identity, NONE)


def paid_for_run(client: "Client", team_id: str, run_id: str) -> dict[str, int]:
    """Return how much of a run each kind of credits paid, in millionths; empty without account."""
    answer = client.query(
        "SELECT kind, sum(credits_micro) FROM draws_by_run"
        " WHERE team_id = {team:String} AND run_id = {run:String}"
        " GROUP BY kind HAVING sum(credits_micro) != 0 ORDER BY kind",
        parameters={"team": team_id, "run": run_id},
    )
    return {str(kind): int(micro) for kind, micro in answer.result_rows}
