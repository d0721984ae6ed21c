"""`meterstream replay`: a trace as run events."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from meterstream.cli.connection import connect
from meterstream.cli.errors import BadInput
from meterstream.cli.options import Duration, data_option, json_option, traffic_options
from meterstream.cli.output import note
from meterstream.cli.traffic.job import Job, run_job
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.replaying import replay_job
from meterstream.cli.traffic.show import show_sent
from meterstream.cli.traffic.trace import load_trace


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Makes what the trace lacks; another seed makes another set of runs of it.",
)
@traffic_options
@click.option("--keep-times", is_flag=True, help="Leave the times as the trace has them.")
@click.option("--fit", type=Duration(), help="Squeeze a trace that lasts longer into this time.")
@click.option("--rate", type=click.IntRange(1, 1_000_000), help="Messages a second at most.")
@click.option("--realtime", is_flag=True, help="Send each run at its time, from now on.")
@data_option
@json_option
def replay(
    path: Path,
    seed: int,
    teams: int,
    users: int,
    agents: int,
    models: int,
    duplicates: int,
    invalid: int,
    end_at: datetime | None,
    keep_times: bool,
    fit: timedelta | None,
    rate: int | None,
    realtime: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Send a trace as run events, and count what the broker acknowledged.

    The format is recognised by the header: TIMESTAMP,ContextTokens,GeneratedTokens (Azure LLM
    inference), timestamp_ms,input_length,output_length (Mooncake), or `time` with columns named
    as the fields of a completed run (team_id, user_id, model, input_tokens, latency_us, ...).
    What the trace lacks is made from --seed, and said.

    Times are moved so that the trace ends now. The end is kept in the data directory: the same
    trace, seed and sizes sent a second time are the same events, and change no number.

    \b
    Examples:
      meterstream replay AzureLLMInferenceTrace_conv.csv
      meterstream replay trace.csv --teams 20 --users 400 --agents 40 --duplicates 2%
      meterstream replay trace.csv --realtime     # as it happened, from now on
      meterstream replay trace.csv --seed 2       # as another set of runs, counted anew
    """
    if keep_times and (end_at or fit):
        raise BadInput("--keep-times excludes --end-at and --fit: they move times")
    if realtime and (rate or keep_times):
        raise BadInput("--realtime excludes --rate and --keep-times: it sets pace and times itself")
    connection = connect(data)
    trace = load_trace(path)
    note(f"{path}: {trace.format.name}, {trace.rows:,} runs")
    if trace.lacks:
        note(f"note: it lacks {', '.join(sorted(trace.lacks))}: made from seed {seed}")
    job: Job = replay_job(
        trace,
        Sizes(teams, users, agents, models),
        seed,
        fit_us=fit // timedelta(microseconds=1) if fit else None,
        duplicates_ppm=duplicates,
        invalid_ppm=invalid,
        rate=rate,
        realtime=realtime,
        keep_times=keep_times,
        end_at=end_at,
    )
    show_sent(run_job(connection, job, f"replaying {path.name}"), as_json)
