"""What sessions were charged, for their time and their runs, and which credits paid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterstream.cli.errors import BadInput

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(frozen=True, slots=True)
class ChargedTime:
    """Session time that one card charged alike."""

    card: str
    multiplier_ppm: int
    charges: int
    first_us: int
    """Event time of the first sign that charged some of it, microseconds since 1970."""
    last_us: int
    session_us: int
    credits_micro: int


@dataclass(frozen=True, slots=True)
class ChargedSession:
    """A session, and all that it was charged."""

    team_id: str
    session_id: str
    status: str
    time: Sequence[ChargedTime]
    runs: int
    """Completed ones."""
    runs_micro: int
    """Less what corrections gave back."""
    paid: Mapping[str, int]
    """Micro-credits by the kind of the grants that paid; empty for a team without an account."""

    @property
    def time_micro(self) -> int:
        """What its time was charged."""
        return sum(one.credits_micro for one in self.time)


def find_session(client: "Client", session_id: str, team_id: str | None) -> ChargedSession:
    """Return a session; BadInput where ClickHouse has none of this name, or several."""
    of_team = " AND team_id = {team:String}" if team_id else ""
    asked = {"session": session_id, "team": team_id or ""}
    found = client.query(
        "SELECT team_id, status FROM sessions FINAL"  # noqa: S608 - of two texts of our own
        f" WHERE session_id = {{session:String}}{of_team} ORDER BY team_id LIMIT 10",
        parameters=asked,
    ).result_rows
    if not found:
        whose = f" of team {team_id}" if team_id else ""
        raise BadInput(
            f"there is no session {session_id!r}{whose} in ClickHouse: was one of its signs"
            " counted, and is it not older than sessions are kept?"
        )
    if len(found) > 1:
        teams = ", ".join(str(row[0]) for row in found)
        raise BadInput(f"several teams have a session {session_id!r}: choose by --team: {teams}")
    ((team, status),) = found
    return _charged(client, {"session": session_id, "team": str(team)}, str(status))


def _charged(client: "Client", asked: dict[str, str], status: str) -> ChargedSession:
    where = "WHERE team_id = {team:String} AND session_id = {session:String}"
    time = client.query(
        "SELECT card, multiplier_ppm, count(), toUnixTimestamp64Micro(min(event_time)),"  # noqa: S608
        " toUnixTimestamp64Micro(max(event_time)), sum(session_us), sum(credits_micro)"
        f" FROM charges FINAL {where} GROUP BY card, multiplier_ppm ORDER BY 4",
        parameters=asked,
    ).result_rows
    ((runs, runs_micro),) = client.query(
        f"SELECT count(), sum(credits_micro) FROM runs FINAL {where} AND event_type = 'completed'",  # noqa: S608
        parameters=asked,
    ).result_rows
    ((corrected, voids),) = client.query(
        f"SELECT sum(credits_micro), sum(runs) FROM corrections FINAL {where}",  # noqa: S608
        parameters=asked,
    ).result_rows
    paid = client.query(
        f"SELECT kind, credits_micro FROM draws_by_session {where}"  # noqa: S608
        " AND credits_micro != 0 ORDER BY kind",
        parameters=asked,
    ).result_rows
    return ChargedSession(
        asked["team"],
        asked["session"],
        status,
        [ChargedTime(str(row[0]), *(int(value) for value in row[1:])) for row in time],
        int(runs) + int(voids),
        int(runs_micro) + int(corrected),
        {str(kind): int(micro) for kind, micro in paid},
    )
