"""Usage as the views give it: one query for the table, the JSON and the demo."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meterstream.cli.errors import BadInput
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
)
LEVELS: Final = ("0.5", "0.9", "0.95", "0.99")


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked: by what, in windows of which size and zone, of which time.

    Without a window there is one row for each name, over the whole time. `since` and `until` are
    widened to whole windows, or whole minutes where there is no window.
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

    @property
    def grain(self) -> str:
        """The windows that are read: minutes serve any time, days are enough for all of it."""
        return self.window or ("1m" if self.since or self.until else "1d")

    def sql(self) -> tuple[str, dict[str, str]]:
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
                "window": self.grain,
                "zone": self.zone,
                "since": format_rfc3339(self.since) if self.since else "",
                "until": format_rfc3339(self.until) if self.until else "",
            },
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer: rows by column name, times as RFC 3339 in the zone asked for."""

    query: UsageQuery
    rows: list[dict[str, Any]]


def ask_usage(client: "Client", query: UsageQuery) -> Usage:
    """Ask ClickHouse for usage."""
    sql, parameters = query.sql()
    answer = client.query(sql, parameters=parameters, query_tz=query.zone)
    rows = [dict(zip(answer.column_names, row, strict=True)) for row in answer.result_rows]
    zone = ZoneInfo(query.zone)
    for row in rows:
        start = row.get("window_start")
        if isinstance(start, datetime):
            aware = start if start.tzinfo else start.replace(tzinfo=zone)
            row["window_start"] = aware.astimezone(zone).isoformat()
    return Usage(query, rows)


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
