"""`meterstream demo`: the whole pipeline on this machine, from events to an audit."""

import contextlib
from datetime import timedelta
from pathlib import Path

import click

from meterstream.cli.errors import EXIT_CHECK_FAILED
from meterstream.cli.options import data_option
from meterstream.cli.output import note
from meterstream.cli.traffic.job import Job, source_name
from meterstream.cli.traffic.population import Sizes
from meterstream.cli.traffic.replaying import replay_job
from meterstream.cli.traffic.synthetic import Synthetic
from meterstream.cli.traffic.trace import load_trace

DUPLICATES_PPM = 20_000
INVALID_PPM = 5_000
MESSAGES_A_SECOND = 6_000
SPAN_US = 300_000_000
QUERY = "SELECT card, count(), sum(credits_micro) FROM charges FINAL GROUP BY card"
FIT_US = timedelta(hours=20) // timedelta(microseconds=1)
"""A longer trace is squeezed: what is older than a day the meter refuses as too late."""


@click.command()
@click.option("--events", type=click.IntRange(1, 100_000_000), default=50_000, show_default=True)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay this trace instead of made-up runs.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--keep", is_flag=True, help="Leave the stack up at the end, until Ctrl-C.")
@data_option
def demo(events: int, trace: Path | None, seed: int, keep: bool, data: Path | None) -> int:
    """Start everything, send runs, show usage as it lands, and prove the totals.

    Of the runs 2 % are sent twice and 0.5 % are followed by a broken event. At the end the totals
    that the sender counted and those that ClickHouse holds stand side by side, and the audit
    accounts for every offset. Exit 1 if anything differs.

    \b
    Examples:
      meterstream demo
      meterstream demo --trace AzureLLMInferenceTrace_conv.csv
      meterstream demo --events 500000 --keep
    """
    from meterstream.cli.demo.place import fresh_place
    from meterstream.cli.demo.prices import publish_card
    from meterstream.cli.demo.run import Sending, compare, show_landing, show_usage_by
    from meterstream.cli.stack.embedded import Stack

    job = _trace_job(trace, seed) if trace else _synthetic_job(events, seed)
    place = fresh_place(data)
    note(f"Starting Kafka, ClickHouse and the services; their data goes to {place}")
    with Stack(place, prepare=publish_card, say=note) as stack:
        connection = stack.connection
        click.echo(f"\nSending {job.count:,} runs, 2 % of them twice, and 0.5 % broken events")
        sending = Sending(connection, job)
        sending.start()
        try:
            landed = show_landing(sending, stack.tick)
        except BaseException:
            sending.stop()
            raise
        for by in ("team", "agent"):
            show_usage_by(connection, by)
        equal = compare(sending, landed)
        audited = _audit(place)
        _show_next(place, keep)
        if keep:
            with contextlib.suppress(KeyboardInterrupt):
                stack.watch()
    return 0 if equal and audited else EXIT_CHECK_FAILED


def _synthetic_job(events: int, seed: int) -> Job:
    sizes = Sizes()
    rows = Synthetic(events, SPAN_US, seed)
    return Job(
        source=source_name("demo", seed, sizes, events),
        rows=rows,
        count=events,
        last_us=rows.last_us,
        span_us=rows.span_us,
        sizes=sizes,
        seed=seed,
        duplicates_ppm=DUPLICATES_PPM,
        invalid_ppm=INVALID_PPM,
        rate=MESSAGES_A_SECOND,
    )


def _trace_job(path: Path, seed: int) -> Job:
    trace = load_trace(path)
    note(
        f"{path}: {trace.format.name}, {trace.rows:,} runs; it lacks "
        f"{', '.join(sorted(trace.lacks)) or 'nothing'}, which is made from seed {seed}"
    )
    return replay_job(
        trace,
        Sizes(),
        seed,
        fit_us=FIT_US,
        duplicates_ppm=DUPLICATES_PPM,
        invalid_ppm=INVALID_PPM,
        rate=MESSAGES_A_SECOND,
    )


def _audit(place: Path) -> bool:
    """Run `meterstream audit` as a user would."""
    from meterstream.cli.audit import audit

    click.echo("\nAudit")
    outcome = audit.main(["--data", str(place)], prog_name="audit", standalone_mode=False)
    return outcome in {None, 0}


def _show_next(place: Path, keep: bool) -> None:
    command = ".venv/bin/meterstream" if Path(".venv/bin/meterstream").exists() else "meterstream"
    click.echo("\nNext, " + ("in another terminal:" if keep else "on what the demo left:"))
    first = (
        f"{command} generate --rate 500 --events 30000 --data {place}"
        if keep
        else f"{command} stack --data {place}"
    )
    for line in (
        first,
        f"{command} usage --by model --window 1m --data {place}",
        f'{command} sql --data {place} "{QUERY}"',
    ):
        click.echo(f"  {line}")
    if keep:
        click.echo("\nThe stack stays up. Ctrl-C stops it.")
