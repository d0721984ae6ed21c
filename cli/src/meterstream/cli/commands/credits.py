"""`meterstream credits`: grants, balances, and what runs were charged."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from meterstream.cli.commands import corrections
from meterstream.cli.commands.explain import explain
from meterstream.cli.connection import connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.options import Moment, data_option, json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.schemas.control import GrantKind

if TYPE_CHECKING:
    from meterstream.cli.entries.granted import Stored


@click.group()
def credits() -> None:
    """Grant credits to teams, show what is left of them, and explain and correct charges.

    A team has an account from its first grant or subscription on. Without one its credits are
    counted, and nothing blocks.
    """


@credits.command()
@click.argument("amount", metavar="AMOUNT")
@click.option("--team", required=True, metavar="ID")
@click.option("--kind", type=click.Choice(get_args(GrantKind)), default="funded", show_default=True)
@click.option("--priority", type=click.IntRange(0, 1000), default=100, show_default=True)
@click.option("--from", "starts_at", type=Moment(), help="Drawn from this time on (default: now).")
@click.option("--expires", type=Moment(), help="Drawn until this time (default: for good).")
@click.option("--note", "remark", metavar="TEXT", help="Why, for those who read it later.")
@click.option("--id", "grant_id", metavar="ID", help="Makes it harmless to repeat the command.")
@click.option("--force", is_flag=True, help="Also for a team that is not registered.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def grant(
    amount: str,
    team: str,
    kind: str,
    priority: int,
    starts_at: datetime | None,
    expires: datetime | None,
    remark: str | None,
    grant_id: str | None,
    force: bool,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Grant a team credits: AMOUNT in whole credits, with up to six decimals.

    Grants of a lower priority are drawn first, then those that expire first, then the older ones.
    With --id the same command twice grants once; without it each call grants anew.

    \b
    Examples:
      meterstream credits grant 1000 --team acme --id invoice-2026-07
      meterstream credits grant 200 --team acme --kind reward --priority 50 \\
          --expires 2026-12-31T00:00:00Z --id summer-2026
    """
    from meterstream.cli.entries.grants import check_new, new_grant
    from meterstream.cli.entries.known import check_teams, known_owners
    from meterstream.cli.entries.waiting import NOTHING, govern
    from meterstream.cli.money import exact_credits

    event = new_grant(
        amount,
        {
            "team_id": team,
            "grant_id": grant_id or f"grant-{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(6)}",
            "kind": kind,
            "priority": priority,
            "starts_at": starts_at,
            "expires_at": expires,
            "note": remark,
        },
    )
    connection = connect(data)
    if not force:
        check_teams([team], known_owners(connection).teams)
    is_new = check_new(connection, event)
    outcome = NOTHING
    if is_new and not dry_run:
        name = f"{team} {event.data.grant_id}"
        outcome = govern(connection, [event], wait=wait, names=[name])
    if as_json:
        row = event.data.model_dump(mode="json")
        print_json({"grant": row, "new": is_new, "dry_run": dry_run, **outcome.as_json()})
        return
    if is_new:
        click.echo(
            f"+ {team} {event.data.grant_id}: {exact_credits(event.data.amount_micro)} {kind}"
        )
        note(f"note: {'nothing was written (--dry-run)' if dry_run else outcome.text()}")
    else:
        note(f"note: {event.data.grant_id} was granted before: nothing to do")


@credits.command()
@click.option("--team", metavar="ID", help="Only of this team.")
@data_option
@json_option
def grants(team: str | None, data: Path | None, as_json: bool) -> None:
    """List what was granted by hand, oldest first, and what is left of each.

    Allowances of plans are not among them; the table `grants` in ClickHouse has them too. What is
    left is known from there, seconds after it was counted.

    \b
    Example:
      meterstream credits grants --team acme
    """
    from meterstream.cli.entries.grants import read_grants
    from meterstream.cli.limits.age import age_text
    from meterstream.cli.money import exact_credits
    from meterstream.schemas.times import format_rfc3339

    found = read_grants(connect(data), team)
    stored, why_not = _stored_grants(data, team)
    rows = []
    for name, (event, at) in found.items():
        known = stored.grants.get(name)
        rows.append(
            {
                **event.data.model_dump(mode="json"),
                "granted_at": format_rfc3339(at),
                "left_micro": None if known is None else known.left_micro,
                "status": None if known is None else known.status,
            }
        )
    until = format_rfc3339(stored.until) if stored.until else None
    if as_json:
        print_json({"grants": rows, "stored_until": until})
        return
    if not rows:
        note("note: no grants. `meterstream credits grant` makes one")
        return
    print_table(
        [
            "team",
            "grant",
            "kind",
            "credits",
            "left",
            "status",
            "priority",
            "from",
            "expires",
            "granted at",
            "note",
        ],
        [
            [
                row["team_id"],
                row["grant_id"],
                row["kind"],
                exact_credits(row["amount_micro"]),
                "-" if row["left_micro"] is None else exact_credits(row["left_micro"]),
                row["status"] or "-",
                row["priority"],
                row["starts_at"] or "-",
                row["expires_at"] or "-",
                row["granted_at"],
                row["note"] or "",
            ]
            for row in rows
        ],
        left=3,
    )
    if why_not is not None:
        note(f"note: what is left is not known: {why_not}")
    elif stored.until is None:
        note("note: what is left is not known: ClickHouse has stored nothing yet")
    else:
        age = age_text(datetime.now(UTC) - stored.until)
        note(f"note: what is left is as ClickHouse has it; its newest record is {age} old")


def _stored_grants(data: Path | None, team: str | None) -> "tuple[Stored, str | None]":
    """Return what ClickHouse knows of grants; where it cannot be asked, nothing and why."""
    from meterstream.cli.entries.granted import Stored, read_left
    from meterstream.cli.errors import BadInput, Unreachable
    from meterstream.cli.server import open_clickhouse

    try:
        with open_clickhouse(data) as client:
            return read_left(client, team), None
    except (Unreachable, BadInput) as error:
        return Stored({}, None), str(error)


@credits.command()
@click.option("--team", metavar="ID", help="Only of this team.")
@data_option
@json_option
def balance(team: str | None, data: Path | None, as_json: bool) -> None:
    """Show what teams have left, what they may overdraw, and whether they are blocked.

    A note tells up to when was counted, and how long ago that is.

    \b
    Example:
      meterstream credits balance --team acme --json
    """
    from meterstream.cli.limits.age import counted_note
    from meterstream.cli.limits.states import read_states
    from meterstream.cli.money import exact_credits
    from meterstream.schemas.control import CREDITS_LIMIT
    from meterstream.schemas.times import format_rfc3339

    states = read_states(connect(data), team)
    accounts = [
        (name.team_id, -state.used, state.amount, state.state)
        for name, state in sorted(states.by_name.items())
        if name.limit_id == CREDITS_LIMIT and (team is None or name.team_id == team)
    ]
    counted = states.counted_until("teams")
    until = format_rfc3339(counted) if counted else None
    if as_json:
        keys = ("team_id", "balance_micro", "overdraft_micro", "state")
        rows = [dict(zip(keys, account, strict=True)) for account in accounts]
        print_json({"balances": rows, "counted_until": until})
        return
    if accounts:
        print_table(
            ["team", "balance", "overdraft", "state"],
            [
                [team_id, exact_credits(left), exact_credits(overdraft), state]
                for team_id, left, overdraft, state in accounts
            ],
        )
    else:
        whose = f"team {team} has" if team else "no team has"
        note(f"note: {whose} {'no ' if team else 'an '}account that was published")
    if counted:
        note(counted_note(counted, datetime.now(UTC)))
    else:
        note("note: up to when was counted is not known: is there a `meterstream publisher`?")


for _command in (explain, corrections.void, corrections.adjust, corrections.rerate):
    credits.add_command(_command)
