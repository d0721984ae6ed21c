"""Single runs as they were counted, from ClickHouse."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterstream.cli.errors import BadInput
from meterstream.schemas.times import to_us

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

PAGE: Final = 20_000

_TEXTS: Final = (
    "source", "event_id", "team_id", "run_id", "session_id", "operation", "user_id", "project_id",
    "agent_id", "model", "provider", "feature_id", "product", "card",
)  # fmt: skip
AMOUNTS: Final = (
    "errors", "unpriced_runs", "input_tokens", "output_tokens", "cached_tokens",
    "reasoning_tokens", "credits_micro", "amount_micro", "cost_micro", "duration_us",
    "request_bytes", "response_bytes",
)  # fmt: skip
"""What corrections change, by the names of their fields."""

_SELECT: Final = f"""SELECT {", ".join(_TEXTS)}, event_missing, latency_us, first_token_us,
    toUnixTimestamp64Micro(event_time) AS time_us,
    status = 'failed' AS errors, card = 'unpriced' AS unpriced_runs,
    input_tokens, output_tokens, cached_tokens, reasoning_tokens, credits_micro, amount_micro,
    cost_micro,
    toUnixTimestamp64Micro(ifNull(ended_at, event_time)) - toUnixTimestamp64Micro(started_at)
        AS duration_us,
    request_bytes, response_bytes,
    toString(events_topic_id) AS topic, generation, partition, event_offset
    FROM runs FINAL"""  # noqa: S608 - names of our own
_PLACE: Final = ("team_id", "time_us", "topic", "generation", "partition", "event_offset")


@dataclass(frozen=True, slots=True)
class CountedRun:
    """One run as it was counted first, before any correction. Texts are empty for none."""

    source: str
    event_id: str
    team_id: str
    run_id: str
    session_id: str
    operation: str
    user_id: str
    project_id: str
    agent_id: str
    model: str
    provider: str
    feature_id: str
    product: str
    card: str
    event_missing: bool
    """Whether the event was gone before it was stored: then only its charge is known."""
    latency_us: int
    first_token_us: int | None
    time_us: int
    amounts: Mapping[str, int]
    """What corrections change, by the names in AMOUNTS."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Team, source and id of its event."""
        return self.team_id, self.source, self.event_id


def find_run(
    client: "Client", run_id: str, team_id: str | None, event_id: str | None = None
) -> CountedRun:
    """Return the one completed run of this name; BadInput where there is none, or several."""
    found = find_runs(client, run_id, team_id)
    chosen = [run for run in found if event_id in {None, run.event_id}]
    whose = f" of team {team_id}" if team_id else ""
    if not chosen:
        raise BadInput(
            f"there is no run {run_id!r}{whose} in ClickHouse: is it completed, counted, and not"
            " older than runs are kept?"
        )
    if len(chosen) > 1:
        names = ", ".join(f"{run.team_id} {run.event_id}" for run in chosen[:5])
        raise BadInput(
            f"{len(chosen)} events name a run {run_id!r}{whose} (team and event: {names}):"
            " choose one with --team and --event"
        )
    return chosen[0]


def find_runs(client: "Client", run_id: str, team_id: str | None) -> list[CountedRun]:
    """Return the completed runs of this name, of one team or all."""
    of_team = "team_id = {team:String} AND " if team_id else ""
    answer = client.query(
        f"{_SELECT} WHERE {of_team}run_id = {{run:String}} AND event_type = 'completed'"
        " ORDER BY team_id, time_us, event_offset LIMIT 100",
        parameters={"run": run_id, "team": team_id or ""},
    )
    return [_run(answer.column_names, row) for row in answer.result_rows]


def count_runs(
    client: "Client", since: datetime, until: datetime, team_id: str | None, *, unpriced: bool
) -> int:
    """Return how many completed runs a time holds."""
    where, parameters = _where(since, until, team_id, unpriced=unpriced)
    answer = client.query(f"SELECT count() FROM runs FINAL {where}", parameters=parameters)  # noqa: S608
    return int(answer.result_rows[0][0])


def runs_between(
    client: "Client", since: datetime, until: datetime, team_id: str | None, *, unpriced: bool
) -> Iterator[list[CountedRun]]:
    """Yield the completed runs of a time, page by page, each team in the order of event times.

    With `unpriced` only those that no card priced when they were counted.
    """
    where, parameters = _where(since, until, team_id, unpriced=unpriced)
    place: Sequence[Any] = ()
    while True:
        after = ""
        if place:
            after = (
                "AND (team_id, event_time, events_topic_id, generation, partition, event_offset) >"
                " ({p_team_id:String}, fromUnixTimestamp64Micro({p_time_us:Int64}, 'UTC'),"
                " toUUID({p_topic:String}), {p_generation:UInt32}, {p_partition:UInt16},"
                " {p_event_offset:Int64})"
            )
            parameters |= {f"p_{name}": value for name, value in zip(_PLACE, place, strict=True)}
        answer = client.query(
            f"{_SELECT} {where} {after} ORDER BY team_id, event_time, events_topic_id, generation,"
            f" partition, event_offset LIMIT {PAGE}",
            parameters=parameters,
        )
        rows = answer.result_rows
        if rows:
            names = answer.column_names
            yield [_run(names, row) for row in rows]
            last = dict(zip(names, rows[-1], strict=True))
            place = [last[name] for name in _PLACE]
        if len(rows) < PAGE:
            return


def _where(
    since: datetime, until: datetime, team_id: str | None, *, unpriced: bool
) -> tuple[str, dict[str, Any]]:
    """Return the condition and its parameters."""
    where = (
        "WHERE event_time >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
        " AND event_time < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
        " AND event_type = 'completed'"
    )
    where += " AND team_id = {team:String}" if team_id else ""
    where += " AND card = 'unpriced'" if unpriced else ""
    return where, {"since": to_us(since), "until": to_us(until), "team": team_id or ""}


def _run(names: Sequence[str], row: Sequence[Any]) -> CountedRun:
    values = dict(zip(names, row, strict=True))
    return CountedRun(
        **{name: str(values[name]) for name in _TEXTS},
        event_missing=bool(values["event_missing"]),
        latency_us=int(values["latency_us"] or 0),
        first_token_us=None if values["first_token_us"] is None else int(values["first_token_us"]),
        time_us=int(values["time_us"]),
        amounts={name: int(values[name]) for name in AMOUNTS},
    )
