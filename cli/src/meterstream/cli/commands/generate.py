"""`meterstream generate`: run events from a seed."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path

import click

from meterstream.cli.connection import connect
from meterstream.cli.options import Duration, data_option, json_option, traffic_options
from meterstream.cli.output import note
from meterstream.cli.traffic.job import Job, run_job, source_name
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.show import show_sent
from meterstream.cli.traffic.synthetic import Synthetic

SECOND_US = 1_000_000
MICROSECOND = timedelta(microseconds=1)


@click.command()
@click.option(
    "--events",
    type=click.IntRange(1, 1_000_000_000),
    default=10_000,
    show_default=True,
    help="Runs to send, resends and broken events not counted.",
)
@click.option(
    "--seed", type=click.IntRange(0), help="Makes the same runs again (default: a new one)."
)
@traffic_options
@click.option(
    "--span", type=Duration(), default="5m", show_default=True, help="The runs end within so long."
)
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    help="Runs a second, as they happen; takes the place of --span.",
)
@data_option
@json_option
def generate(
    events: int,
    seed: int | None,
    teams: int,
    users: int,
    agents: int,
    models: int,
    duplicates: int,
    invalid: int,
    end_at: datetime | None,
    span: timedelta,
    rate: int | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Send made-up runs of made-up teams, and count what the broker acknowledged.

    The same seed and sizes are the same runs, byte for byte, also in their times: sent a second
    time they change no number. The printed unique runs and tokens are what `meterstream usage`
    must come to.

    \b
    Examples:
      meterstream generate                                  # 10,000 runs of the last 5 minutes
      meterstream generate --events 50000 --seed 7 --duplicates 2% --invalid 0.5%
      meterstream generate --events 60000 --rate 1000       # a minute of 1,000 runs a second
      meterstream generate --teams 50 --users 2000 --agents 100 --models 6
    """
    if seed is None:
        seed = secrets.randbelow(1_000_000_000)
        note(f"note: --seed {seed} makes these runs again")
    sizes = Sizes(teams, users, agents, models)
    span_us = events * SECOND_US // rate if rate else span // MICROSECOND
    rows = Synthetic(events, max(span_us, 1), seed)
    job = Job(
        source=source_name("generate", seed, sizes, events, span_us),
        rows=rows,
        count=events,
        last_us=rows.last_us,
        span_us=rows.span_us,
        sizes=sizes,
        seed=seed,
        duplicates_ppm=duplicates,
        invalid_ppm=invalid,
        realtime=rate is not None,
        end_at=end_at,
    )
    show_sent(run_job(connect(data), job, "sending runs"), as_json)
