"""`meterstream subscriptions`: which team has which plan."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterstream.cli.connection import Connection, connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import Moment, data_option, json_option
from meterstream.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from meterstream.schemas.control import SubscriptionChangedData


@click.group()
def subscriptions() -> None:
    """Give teams plans, and list which they have and had."""


@subscriptions.command("set")
@click.option("--team", required=True, metavar="ID")
@click.option("--plan", required=True, metavar="PLAN@VERSION", help="As `plans list` names it.")
@click.option("--from", "starts_at", type=Moment(), help="From this time on (default: now).")
@click.option("--until", "ends_at", type=Moment(), help="Up to this time (default: for good).")
@click.option(
    "--anchor-day", type=click.IntRange(1, 31), help="Periods begin on it (default: day of --from)."
)
@click.option("--zone", help="Of the periods (default: the team's).")
@click.option("--force", is_flag=True, help="Also for a team that is not registered.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def set_subscription(
    team: str,
    plan: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
    anchor_day: int | None,
    zone: str | None,
    force: bool,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Give a team a plan from a moment on. A bigger plan counts at once, a smaller one next period.

    \b
    Examples:
      meterstream subscriptions set --team acme --plan team-1000@1
      meterstream subscriptions set --team acme --plan team-5000@1 --from 2026-07-15T00:00:00Z
    """
    from pydantic import ValidationError

    from meterstream.schemas.control import SubscriptionChangedData
    from meterstream.schemas.rejections import describe

    plan_id, _, version = plan.rpartition("@")
    if not plan_id or not (version.isascii() and version.isdigit()):
        raise BadInput(f"--plan {plan!r}: name it as `meterstream plans list` does: team-1000@1")
    now = datetime.now(UTC)
    try:
        wanted = SubscriptionChangedData(
            team_id=team,
            plan_id=plan_id,
            plan_version=int(version),
            starts_at=starts_at or now,
            ends_at=ends_at,
            anchor_day=anchor_day,
            zone=zone,
        )
    except ValidationError as error:
        why = describe(SubscriptionChangedData, error)[1]
        raise BadInput(f"this subscription cannot be set: {why}") from error
    connection = connect(data)
    _check(connection, team, plan, force=force)
    _write(connection, wanted, f"+ {team}: {plan}", dry_run=dry_run, wait=wait, as_json=as_json)


@subscriptions.command("end")
@click.option("--team", required=True, metavar="ID")
@click.option("--from", "starts_at", type=Moment(), help="Its start, where a team has several.")
@click.option("--at", "ends_at", type=Moment(), help="When it ends (default: now).")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def end_subscription(
    team: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """End a team's subscription, or cancel one that has not begun.

    The one that began before it holds again, if it still runs. Without one the team has no plan:
    its allowance ends, what was granted to it otherwise stays, and it may not overdraw.

    \b
    Examples:
      meterstream subscriptions end --team acme
      meterstream subscriptions end --team acme --from 2026-09-01T00:00:00Z
    """
    from meterstream.cli.entries.subscriptions import ended

    connection = connect(data)
    wanted = ended(connection, team, starts_at, ends_at, datetime.now(UTC))
    what = "cancelled" if wanted.ends_at == wanted.starts_at else f"until {wanted.ends_at}"
    words = f"- {team}: {wanted.plan_id}@{wanted.plan_version}, {what}"
    _write(connection, wanted, words, dry_run=dry_run, wait=wait, as_json=as_json)


@subscriptions.command("list")
@click.option("--team", metavar="ID", help="Only of this team.")
@data_option
@json_option
def list_subscriptions(team: str | None, data: Path | None, as_json: bool) -> None:
    """List the subscriptions of teams by their start, as each was set last.

    One that ends where it starts is cancelled.

    \b
    Example:
      meterstream subscriptions list --team acme
    """
    from meterstream.cli.entries.subscriptions import read_subscriptions
    from meterstream.schemas.times import format_rfc3339

    rows = [
        {**event.data.model_dump(mode="json"), "set_at": format_rfc3339(at)}
        for event, at in read_subscriptions(connect(data), team).values()
    ]
    if as_json:
        print_json({"subscriptions": rows})
        return
    if not rows:
        note("note: no subscriptions. `meterstream subscriptions set` gives a team a plan")
        return
    print_table(
        ["team", "plan", "from", "until", "anchor day", "zone", "set at"],
        [
            [
                row["team_id"],
                f"{row['plan_id']}@{row['plan_version']}",
                row["starts_at"],
                row["ends_at"] or "-",
                str(row["anchor_day"] or "-"),
                row["zone"] or "-",
                row["set_at"],
            ]
            for row in rows
        ],
        left=7,
    )


def _write(
    connection: Connection,
    wanted: "SubscriptionChangedData",
    words: str,
    *,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Write a subscription, unless it is a rehearsal, and say what became of it."""
    from meterstream.cli.entries.waiting import NOTHING, govern
    from meterstream.cli.entries.write import SOURCE
    from meterstream.schemas.control import SubscriptionChanged

    name = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()[:32]
    event = SubscriptionChanged(id=name, source=SOURCE, time=datetime.now(UTC), data=wanted)
    what = f"{wanted.team_id} {wanted.plan_id}@{wanted.plan_version}"
    outcome = NOTHING if dry_run else govern(connection, [event], wait=wait, names=[what])
    if as_json:
        row = wanted.model_dump(mode="json")
        print_json({"subscription": row, "dry_run": dry_run, **outcome.as_json()})
        return
    click.echo(words)
    note(f"note: {'nothing was written (--dry-run)' if dry_run else outcome.text()}")


def _check(connection: Connection, team: str, plan: str, *, force: bool) -> None:
    from meterstream.cli.entries.known import check_teams, read_catalog
    from meterstream.schemas.catalog import PlanPublished, TeamRegistered

    catalog = read_catalog(connection)
    plans = (each.data for each in catalog.of(PlanPublished))
    if plan not in {f"{each.plan_id}@{each.version}" for each in plans}:
        raise BadInput(f"there is no plan {plan}: `meterstream plans list` names them")
    if not force:
        check_teams([team], {each.data.team_id for each in catalog.of(TeamRegistered)})
