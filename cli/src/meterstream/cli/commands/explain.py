"""`meterstream credits explain`: what runs and sessions were charged, and what paid for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterstream.cli.connection import connect
from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.cli.server import open_clickhouse

if TYPE_CHECKING:
    from meterstream.cli.corrections.known import Made
    from meterstream.cli.corrections.runs import CountedRun
    from meterstream.schemas.pricing import Price


@click.command()
@click.argument("run_id", metavar="[RUN_ID]", required=False)
@click.option("--session", "session_id", metavar="ID", help="Explain a session instead of a run.")
@click.option("--team", metavar="ID", help="Of this team; quicker, and needed where two have it.")
@click.option("--event", metavar="ID", help="Where several events name the run.")
@data_option
@json_option
def explain(
    run_id: str | None,
    session_id: str | None,
    team: str | None,
    event: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show how the price of a run or session comes about, its corrections, and what paid for it.

    Of a session it tells what its time was charged, by card, and what its runs were.

    \b
    Examples:
      meterstream credits explain run-4711 --team acme
      meterstream credits explain --session session-17 --team acme
    """
    if (run_id is None) == (session_id is None):
        raise BadInput("name one RUN_ID, or a session by --session")
    if session_id is not None:
        _explain_session(session_id, team, data, as_json=as_json)
    elif run_id is not None:
        _explain_run(run_id, team, event, data, as_json=as_json)


def _explain_run(
    run_id: str, team: str | None, event: str | None, data: Path | None, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from meterstream.cli.corrections.known import amounts_now
    from meterstream.cli.corrections.look_up import look_up, paid_for_run
    from meterstream.cli.corrections.prices import Prices
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.pricing import EXPLICIT, UNPRICED

    connection = connect(data)
    run, made = look_up(connection, data, run_id, team, event)
    prices = Prices.of(read_catalog(connection))
    card = made.card or run.card
    now = amounts_now(run, made)
    amounts = dict(run.amounts) if made.is_void else now
    price = prices.price(run, amounts, None if card in {EXPLICIT, UNPRICED} else card)
    with open_clickhouse(data) as client:
        paid = paid_for_run(client, run.team_id, run.run_id)
    if not as_json:
        _show(run, made, price, now["credits_micro"])
        _show_paid(paid)
        return
    rows = [
        {"number": number, "credits_micro": micro, "reason": reason, "made_at": at.isoformat()}
        for number, micro, reason, at in made.notes
    ]
    print_json(
        {
            "team_id": run.team_id,
            "run_id": run.run_id,
            "event_id": run.event_id,
            "first_card": run.card,
            "card": card,
            "charged_micro": run.amounts["credits_micro"],
            "price": {**asdict(price), "is_priced": price.is_priced},
            "corrections": rows,
            "is_void": made.is_void,
            "credits_micro": now["credits_micro"],
            "paid_micro": paid,
        }
    )


def _explain_session(
    session_id: str, team: str | None, data: Path | None, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from meterstream.cli.corrections.sessions import find_session
    from meterstream.cli.money import exact_credits
    from meterstream.schemas.times import format_rfc3339, from_us

    with open_clickhouse(data) as client:
        found = find_session(client, session_id, team)
    if as_json:
        document = asdict(found)
        document["paid_micro"] = document.pop("paid")
        credits_micro = found.time_micro + found.runs_micro
        print_json({**document, "time_micro": found.time_micro, "credits_micro": credits_micro})
        return
    click.echo(f"session {found.session_id} of team {found.team_id}, {found.status}")
    if found.time:
        print_table(
            ["card", "charges", "from", "to", "seconds", "times", "credits"],
            [
                [
                    one.card,
                    one.charges,
                    format_rfc3339(from_us(one.first_us)),
                    format_rfc3339(from_us(one.last_us)),
                    exact_credits(one.session_us),  # millionths as well
                    exact_credits(one.multiplier_ppm),
                    exact_credits(one.credits_micro),
                ]
                for one in found.time
            ],
        )
    click.echo(f"charged for its time: {exact_credits(found.time_micro)}")
    click.echo(f"charged for its runs ({found.runs:,}): {exact_credits(found.runs_micro)}")
    _show_paid(found.paid)


def _show_paid(paid: Mapping[str, int]) -> None:
    from meterstream.cli.money import exact_credits

    if paid:
        parts = ", ".join(f"{exact_credits(micro)} {kind}" for kind, micro in paid.items())
        click.echo(f"paid by: {parts}")
    else:
        note("note: no account paid for it")


def _show(run: "CountedRun", made: "Made", price: "Price", now_micro: int) -> None:
    """Print how the price of a run comes about."""
    from meterstream.cli.money import exact_credits
    from meterstream.schemas.pricing import EXPLICIT, UNPRICED
    from meterstream.schemas.times import format_rfc3339, from_us

    click.echo(f"run {run.run_id} of team {run.team_id}, {format_rfc3339(from_us(run.time_us))}")
    charged, card = run.amounts["credits_micro"], made.card or run.card
    if card == UNPRICED:
        click.echo("card: none priced it, so nothing was charged")
        if price.is_priced:
            note(f"note: {price.card} would price it now: `meterstream credits rerate --unpriced`")
    elif card == EXPLICIT:
        click.echo("card: none, the event itself named its credits")
    else:
        first = "" if card == run.card else f", after {run.card} at first"
        click.echo(f"card: {card}, line {price.line + 1} of its prices{first}")
    if price.steps:
        times = exact_credits(price.multiplier_ppm)  # millionths as well
        print_table(
            ["component", "quantity", "price", "for", "times", "credits"],
            [
                [
                    step.component,
                    step.quantity,
                    exact_credits(step.credits.price_micro),
                    step.per,
                    times,
                    exact_credits(step.credits.micro),
                ]
                for step in price.steps
            ],
        )
    click.echo(f"charged: {exact_credits(charged)}")
    for number, micro, reason, at in made.notes:
        what = f"adjustment {number}" if number else "void"
        click.echo(f"{what}: {exact_credits(micro)}, {format_rfc3339(at)}, {reason or 'no reason'}")
    if made.notes:
        click.echo(f"now: {exact_credits(now_micro)}")
    if card not in {UNPRICED, EXPLICIT} and not made.notes and price.credits_micro != charged:
        note(
            f"note: by the catalog of now it would be {exact_credits(price.credits_micro)}: the"
            " type of its agent or its feature has changed since"
        )
