"""Usage as the views give it: one query for the table, the JSON and the demo."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meterstream.cli.errors import BadInput
from meterstream.cli.usage_reading import Reading, readings
from meterstream.schemas.times import format_rfc3339

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DIMENSIONS: Final = {
    "team": "team_id",
    "user": "user_id",
    "agent": "agent_id",
    "model": "model",
    "feature": "feature_id",
    "project": "project_id",
}
"""What usage can be asked by, and the column that names it."""

WINDOWS: Final = ("1m", "15m", "1h", "1d", "1mo")

SUMS: Final = (
    "runs",
    "errors",
    "unpriced_runs",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "credits_micro",
    "amount_micro",
    "cost_micro",
    "session_us",
)
LEVELS: Final = ("0.5", "0.9", "0.95", "0.99")
_LAST_YEAR: Final = 2104
"""The last year that is whole in ClickHouse's DateTime."""
_GONE: Final = re.compile(r"(minutes|quarters of an hour) are kept for (\d+) days")
"""What the views say where a TTL took rows that a window is made of."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked: by what, in windows of which size and zone, of which time.

    Without a window there is one row for each name, over the whole time. `since` and `until` are
    widened to whole windows; where there is no window, to whole minutes as long as those are kept.
    """

    by: str
    window: str | None = None
    zone: str = "UTC"
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        """Refuse what no view could answer."""
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise BadInput(
                f"--zone {self.zone!r} is no time zone: UTC and Europe/Berlin are"
            ) from error
        if self.since and self.until and self.since >= self.until:
            raise BadInput("--since must lie before --until")
        for option, moment in (("--since", self.since), ("--until", self.until)):
            if moment and not 1970 <= moment.year <= _LAST_YEAR:
                raise BadInput(f"{option} must lie in the years 1970 to {_LAST_YEAR}")

    def readings(self) -> tuple[Reading, ...]:
        """Return the ways to read it, in the order to try them."""
        if self.window:
            return (Reading(self.window, self.zone, self.since, self.until),)
        return readings(self.since, self.until, self.zone)

    def sql(self, reading: Reading) -> tuple[str, dict[str, str]]:
        """Return the statement and its parameters."""
        name = DIMENSIONS[self.by]
        keys = f"window_start, {name}" if self.window else name
        sums = ", ".join(f"sum(usage.{each}) AS {each}" for each in SUMS)
        levels = ", ".join(
            f"sketchQuantile({sketch}, {level}) AS {kind}_p{level[2:]:0<2}_us"
            for kind, sketch in (("latency", "latencies"), ("first_token", "first_tokens"))
            for level in LEVELS
        )
        order = "window_start DESC, runs DESC" if self.window else "runs DESC"
        return (
            f"""SELECT {keys}, {", ".join(SUMS)}, {levels}
            FROM (
                SELECT {keys}, {sums}, sumMap(usage.latency_sketch) AS latencies,
                    sumMap(usage.first_token_sketch) AS first_tokens
                FROM usage_by_{self.by}(
                    window = {{window:String}}, zone = {{zone:String}},
                    since = {{since:String}}, until = {{until:String}}
                ) AS usage
                GROUP BY {keys}
            )
            ORDER BY {order}, {name} LIMIT {self.limit}""",  # noqa: S608 - names of our own
            {
                "window": reading.window,
                "zone": reading.zone,
                "since": format_rfc3339(reading.since) if reading.since else "",
                "until": format_rfc3339(reading.until) if reading.until else "",
            },
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer: rows by column name, times as RFC 3339 in the zone asked for, and its reading.

    `gone` says which smaller windows could not be read, as they are no longer kept; else "".
    """

    query: UsageQuery
    reading: Reading
    gone: str
    rows: list[dict[str, Any]]


def ask_usage(client: "Client", query: UsageQuery) -> Usage:
    """Ask ClickHouse for usage, in larger windows where smaller ones are no longer kept.

    Raises BadInput where the windows that were asked for are no longer kept.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    gone = ""
    for reading in query.readings():
        sql, parameters = query.sql(reading)
        try:
            answer = client.query(sql, parameters=parameters, query_tz=query.zone)
            break
        except ClickHouseError as error:
            missing = _GONE.search(str(error))
            if missing is None:
                raise
            gone = f"{missing[1]} are kept for {missing[2]} days"
    else:
        larger = "15m or more" if gone.startswith("minutes") else "1d or 1mo with --zone UTC"
        raise BadInput(
            f"--window {query.window} reaches back to where its rows are gone ({gone}): "
            f"take --window {larger}, or a later --since"
        )
    rows = [dict(zip(answer.column_names, row, strict=True)) for row in answer.result_rows]
    zone = ZoneInfo(query.zone)
    for row in rows:
        start = row.get("window_start")
        if isinstance(start, datetime):
            aware = start if start.tzinfo else start.replace(tzinfo=zone)
            row["window_start"] = aware.astimezone(zone).isoformat()
    return Usage(query, reading, gone, rows)


def credits_text(micro: int) -> str:
    """Return credits with all six decimals, exact: 1234567 is 1.234567."""
    sign, whole, rest = "-" if micro < 0 else "", *divmod(abs(micro), 1_000_000)
    return f"{sign}{whole:,}.{rest:06d}"


def milliseconds_text(microseconds: int | None) -> str:
    """Return a latency in milliseconds with one decimal, rounded half up; "-" without one."""
    if microseconds is None:
        return "-"
    tenths = (int(microseconds) + 50) // 100
    return f"{tenths // 10:,}.{tenths % 10}"
