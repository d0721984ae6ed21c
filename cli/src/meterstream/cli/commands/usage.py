"""`meterstream usage`: who used what."""

from datetime import datetime
from pathlib import Path

import click

from meterstream.cli.options import Moment, data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.cli.server import open_clickhouse
from meterstream.cli.usage_query import (
    DIMENSIONS,
    WINDOWS,
    Usage,
    UsageQuery,
    ask_usage,
    credits_text,
    milliseconds_text,
)
from meterstream.schemas.times import format_rfc3339


@click.command()
@click.option(
    "--by", type=click.Choice(tuple(DIMENSIONS)), default="team", show_default=True, help="Group."
)
@click.option(
    "--window", type=click.Choice(WINDOWS), help="A row for each window (default: one in all)."
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of windows.")
@click.option("--since", type=Moment(), help="From this time on (RFC 3339), in whole windows.")
@click.option("--until", type=Moment(), help="Up to this time (RFC 3339), in whole windows.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@data_option
@json_option
def usage(
    by: str,
    window: str | None,
    zone: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show runs, tokens, credits and latency percentiles, newest or busiest first.

    Without --window there is one row for each name. It is exact to the minute as long as minutes
    are kept (40 days); beyond that, --since and --until are widened to quarters of an hour (400
    days) or days, and a note says so.

    The numbers are those of the views usage_by_team, usage_by_user and so on, which anyone may
    query. Percentiles are within 1 % of the exact ones; all else is exact.

    \b
    Examples:
      meterstream usage --by team
      meterstream usage --by model --window 1h --zone Europe/Berlin
      meterstream usage --by agent --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z
      meterstream usage --by user --json | jq '.rows[0]'
    """
    query = UsageQuery(by, window, zone, since, until, limit)
    with open_clickhouse(data) as client:
        answer = ask_usage(client, query)
    if as_json:
        print_json(
            {
                "by": by,
                "window": window,
                "zone": zone,
                "read": {
                    "window": answer.reading.window,
                    "zone": answer.reading.zone,
                    "since": _text(answer.reading.since),
                    "until": _text(answer.reading.until),
                },
                "rows": answer.rows,
            }
        )
        return
    show_usage(answer)
    if (since or until) and not window:
        note(_how_it_was_read(answer))
    if not answer.rows:
        when = "in that time" if since or until else "yet"
        note(f"note: no usage {when}. `meterstream generate` sends some")
    if unpriced := sum(row["unpriced_runs"] for row in answer.rows):
        note(
            f"note: no rate card priced {unpriced:,} runs or spans of session time, so nothing is"
            " charged for them yet. The view unpriced_usage tells what a card lacks"
        )
    if len(answer.rows) == limit:
        note(f"note: only the first {limit} rows; --limit shows more")


def _how_it_was_read(answer: Usage) -> str:
    """Say which windows a sum over a time was made of, and which time they cover."""
    reading = answer.reading
    start = _text(reading.since) or "the beginning"
    covered = f"from {start} until {_text(reading.until) or 'now'}"
    why = f"; {answer.gone}, so the time was widened" if answer.gone else ""
    return f"note: summed from windows of {reading.window} ({reading.zone}), {covered}{why}"


def _text(moment: datetime | None) -> str | None:
    return format_rfc3339(moment) if moment else None


def show_usage(usage: Usage, title: str | None = None) -> None:
    """Print usage as a table."""
    name = DIMENSIONS[usage.query.by]
    windows = ["window_start"] if usage.query.window else []
    print_table(
        [
            *("window" for _ in windows),
            usage.query.by,
            "runs",
            "errors",
            "input tokens",
            "output tokens",
            "credits",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "first token p50 ms",
        ],
        [
            [
                *(row[each] for each in windows),
                row[name] or "(none)",
                row["runs"],
                row["errors"],
                row["input_tokens"],
                row["output_tokens"],
                credits_text(row["credits_micro"]),
                milliseconds_text(row["latency_p50_us"]),
                milliseconds_text(row["latency_p95_us"]),
                milliseconds_text(row["latency_p99_us"]),
                milliseconds_text(row["first_token_p50_us"]),
            ]
            for row in usage.rows
        ],
        title=title,
        left=len(windows) + 1,
    )
