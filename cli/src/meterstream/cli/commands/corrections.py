"""`meterstream credits void, adjust, rerate`: corrections of what runs were charged."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from meterstream.cli.connection import Connection, connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import Moment, data_option, json_option
from meterstream.cli.output import Progress, note, print_json, print_table
from meterstream.cli.server import open_clickhouse

if TYPE_CHECKING:
    from meterstream.cli.corrections.rerate import Summary
    from meterstream.schemas.control import UsageAdjusted, UsageVoided

CHANGES: Final = (
    "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "request_bytes",
    "response_bytes",
)  # fmt: skip


@click.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option("--team", required=True, metavar="ID")
@click.option("--event", metavar="ID", help="Where several events name the run.")
@click.option("--reason", metavar="TEXT", help="Why, for those who read it later.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only say what it would take back.")
@wait_option
@data_option
@json_option
def void(
    run_id: str,
    team: str,
    event: str | None,
    reason: str | None,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Take a run back as a whole: its tokens, latency and credits. Twice is once.

    \b
    Example:
      meterstream credits void run-4711 --team acme --reason "load test"
    """
    from meterstream.cli.corrections.look_up import look_up
    from meterstream.cli.corrections.make import void as make_void

    connection = connect(data)
    run, made = look_up(connection, data, run_id, team, event)
    if made.is_void:
        _say_nothing_to_do(f"{team} {run_id} was voided before", as_json, dry_run)
        return
    entry = make_void(run, made, reason, datetime.now(UTC))
    _correct(connection, entry, dry_run=dry_run, wait=wait, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN_ID")
@click.option("--team", required=True, metavar="ID")
@click.option("--event", metavar="ID", help="Where several events name the run.")
@click.option("--credits", "credit_change", metavar="±N", help="Such as -0.25 or 3.")
@click.option("--input-tokens", type=int, default=0)
@click.option("--output-tokens", type=int, default=0)
@click.option("--cached-tokens", type=int, default=0)
@click.option("--reasoning-tokens", type=int, default=0)
@click.option("--request-bytes", type=int, default=0)
@click.option("--response-bytes", type=int, default=0)
@click.option("--number", type=click.IntRange(1, 1_000_000), help="Makes it harmless to repeat.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for those who read it later.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def adjust(
    run_id: str,
    team: str,
    event: str | None,
    credit_change: str | None,
    number: int | None,
    reason: str,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
    **amounts: int,
) -> None:
    """Add to, or take from, what a run was counted with. The run itself stays counted.

    Adjustments of a run are numbered from 1. With --number the same command twice adjusts once;
    without it each call makes the next one.

    \b
    Examples:
      meterstream credits adjust run-4711 --team acme --credits -0.25 --reason "as agreed"
      meterstream credits adjust run-4711 --team acme --output-tokens -500 --number 1 \\
          --reason "counted twice by the provider"
    """
    from meterstream.cli.corrections.look_up import look_up
    from meterstream.cli.corrections.make import adjust as make_adjustment
    from meterstream.cli.corrections.make import check_result
    from meterstream.streams.core.corrections import content_of

    changes = {name: amounts[name] for name in CHANGES if amounts[name]}
    if credit_change is not None and (micro := _signed(credit_change)):
        changes["credits_micro"] = micro
    if not changes:
        raise BadInput("this adjusts nothing: give --credits, --input-tokens or another amount")
    connection = connect(data)
    run, made = look_up(connection, data, run_id, team, event)
    number = number or made.next_number
    card = made.card or run.card
    entry = make_adjustment(run, number, changes, card, reason, datetime.now(UTC))
    if made.numbers.get(number) == content_of(entry):
        _say_nothing_to_do(f"{team} {run_id} has adjustment {number} already", as_json, dry_run)
        return
    if made.is_void:
        raise BadInput(f"{team} {run_id} was voided: nothing of it is left to adjust")
    if number in made.numbers:
        raise BadInput(
            f"--number {number}: this run has another adjustment of that number; the next is"
            f" {made.next_number}"
        )
    check_result(run, made, changes)
    _correct(connection, entry, dry_run=dry_run, wait=wait, as_json=as_json)


@click.command()
@click.option("--from", "since", type=Moment(), required=True, help="Event times from here on.")
@click.option("--to", "until", type=Moment(), required=True, help="Up to, not including, here.")
@click.option("--team", metavar="ID", help="Only runs of this team.")
@click.option("--unpriced", is_flag=True, help="Only runs that no card priced.")
@click.option("--card", metavar="NAME@VERSION", help="Price by it, whenever it took effect.")
@click.option("--reason", default="rerated", show_default=True, metavar="TEXT")
@click.option("--dry-run", is_flag=True, help="Write nothing, only show the difference.")
@click.option("--yes", is_flag=True, help="Write the corrections without a question.")
@wait_option
@data_option
@json_option
def rerate(
    since: datetime,
    until: datetime,
    team: str | None,
    unpriced: bool,
    card: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Price the runs of a time once more, show the difference, then write it as corrections.

    Each run is priced by the card in effect at its event time, or by --card. What changes is
    written as a numbered adjustment of the run, so what was charged first stays to be read. Runs
    that name their own credits, voided ones and those whose credits were adjusted by hand stay as
    they are, and so do runs that no card prices. Harmless to repeat: what was corrected differs no
    more. Sessions are not rerated, nor are runs that ClickHouse keeps no longer.

    \b
    Examples:
      meterstream credits rerate --from 2026-07-01T00:00:00Z --to 2026-08-01T00:00:00Z --dry-run
      meterstream credits rerate --from 2026-07-01T00:00:00Z --to 2026-08-01T00:00:00Z \\
          --unpriced --card default@4 --yes
    """
    from meterstream.cli.corrections.known import read_corrections
    from meterstream.cli.corrections.prices import Prices
    from meterstream.cli.corrections.rerate import Rerating
    from meterstream.cli.corrections.runs import count_runs, runs_between
    from meterstream.cli.entries.known import read_catalog
    from meterstream.cli.entries.waiting import govern

    if since >= until:
        raise BadInput("--from must lie before --to")
    connection = connect(data)
    prices = Prices.of(read_catalog(connection))
    if card:
        prices.card(card)
    rerating = Rerating(prices, read_corrections(connection, team), card, reason)
    with open_clickhouse(data) as client:
        total = count_runs(client, since, until, team, unpriced=unpriced)
        with Progress("priced", total) as progress:
            pages = runs_between(client, since, until, team, unpriced=unpriced)
            summary = rerating.summary(pages, progress.update)
        if not as_json:
            _show_difference(summary)
        written = 0
        if summary.changed and not dry_run and _may_write(summary.changed, yes=yes):
            with Progress("corrected", summary.changed) as progress:
                pages = runs_between(client, since, until, team, unpriced=unpriced)
                for events in rerating.corrections(pages, datetime.now(UTC)):
                    names = [f"{each.data.team_id} {each.data.run_id}" for each in events]
                    govern(connection, events, wait=wait, names=names)
                    written += len(events)
                    progress.update(written)
    if as_json:
        print_json({**_difference_json(summary), "written": written, "dry_run": dry_run})
    elif not summary.changed:
        note("note: nothing to change")
    else:
        note(f"note: {written:,} corrections were written")


def _may_write(changed: int, *, yes: bool) -> bool:
    """Ask on a terminal, unless the answer was given; BadInput where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise BadInput(f"{changed} runs would be corrected, and nothing was written: --yes does it")
    return click.confirm(f"Correct {changed:,} runs?", err=True)


def _correct(
    connection: Connection,
    entry: "UsageAdjusted | UsageVoided",
    *,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Write a correction, unless it is a rehearsal, and say what became of it."""
    from meterstream.cli.entries.waiting import NOTHING, govern
    from meterstream.cli.money import exact_credits

    name = f"{entry.data.team_id} {entry.data.run_id}"
    outcome = NOTHING if dry_run else govern(connection, [entry], wait=wait, names=[name])
    if as_json:
        row = entry.data.model_dump(mode="json")
        print_json({"correction": row, "dry_run": dry_run, **outcome.as_json()})
        return
    amounts = entry.data.model_dump(include={*CHANGES, "credits_micro"})
    words = [
        f"{key.removesuffix('_micro').replace('_', ' ')} "
        f"{exact_credits(value) if key == 'credits_micro' else f'{value:,}'}"
        for key, value in amounts.items()
        if value
    ]
    click.echo(f"{name}: {', '.join(words) or 'no amounts'}")
    note(f"note: {'nothing was written (--dry-run)' if dry_run else outcome.text()}")


def _say_nothing_to_do(what: str, as_json: bool, dry_run: bool) -> None:
    from meterstream.cli.entries.waiting import NOTHING

    if as_json:
        print_json({"correction": None, "dry_run": dry_run, **NOTHING.as_json()})
    note(f"note: {what}: nothing to do")


def _signed(text: str) -> int:
    """Return signed credits in millionths."""
    from meterstream.cli.money import parse_credits

    sign = -1 if text.startswith("-") else 1
    try:
        return sign * parse_credits(text[1:] if text[:1] in {"-", "+"} else text)
    except ValueError as error:
        raise BadInput(f"--credits {text!r}: {error}") from error


def _show_difference(summary: "Summary") -> None:
    from meterstream.cli.money import exact_credits

    rows = [
        [
            team,
            model or "(none)",
            each.runs,
            each.changed,
            each.newly_priced,
            each.still_unpriced,
            exact_credits(each.before_micro),
            exact_credits(each.after_micro),
            exact_credits(each.after_micro - each.before_micro),
        ]
        for (team, model), each in sorted(summary.by_team_and_model.items())
    ]
    columns = [
        "team", "model", "runs", "changed", "newly priced", "still unpriced", "before", "after",
        "difference",
    ]  # fmt: skip
    if rows:
        print_table(columns, rows, left=2)
    if summary.missing:
        note(f"note: {summary.missing:,} runs stay as they are: their events were gone too early")
    if summary.by_hand:
        note(f"note: {summary.by_hand:,} runs stay as they are: they were adjusted by hand")


def _difference_json(summary: "Summary") -> dict[str, Any]:
    from dataclasses import asdict

    rows = [
        {"team_id": team, "model": model, **asdict(each)}
        for (team, model), each in sorted(summary.by_team_and_model.items())
    ]
    return {
        "runs": summary.runs,
        "changed": summary.changed,
        "missing": summary.missing,
        "by_hand": summary.by_hand,
        "difference": rows,
    }
