"""`meterstream teams`: who is charged."""

from pathlib import Path

import click

from meterstream.cli.commands.catalog import carry_out
from meterstream.cli.connection import connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table


@click.group()
def teams() -> None:
    """Register and list teams. Days and months of limits and credits begin in a team's zone."""


@teams.command()
@click.argument("team_id", metavar="TEAM")
@click.option("--organisation", required=True, metavar="ID", help="Which it belongs to.")
@click.option("--name", help="As reports name it (default: its id).")
@click.option("--zone", default="UTC", show_default=True, help="Such as Europe/Berlin.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only check it.")
@wait_option
@data_option
@json_option
def register(
    team_id: str,
    organisation: str,
    name: str | None,
    zone: str,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Register a team, or change its name, organisation or zone.

    \b
    Example:
      meterstream teams register acme --organisation acme-group --name Acme --zone Europe/Berlin
    """
    from pydantic import ValidationError

    from meterstream.cli.entries.catalog_file import entry_of_data, is_news
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.catalog import TeamRegistered
    from meterstream.schemas.rejections import describe

    said = {"team_id": team_id, "organisation_id": organisation}
    said |= {"name": team_id if name is None else name, "zone": zone}
    try:
        event = entry_of_data(TeamRegistered, said)
    except ValidationError as error:
        why = describe(TeamRegistered, error)[1].removeprefix("data.")
        raise BadInput(f"this team cannot be registered: {why}") from error
    connection = connect(data)
    known = read_catalog(connection)
    news = [event] if is_news(known, event) else []
    same = 1 - len(news)
    carry_out(connection, known, news, same=same, dry_run=dry_run, wait=wait, as_json=as_json)


@teams.command("list")
@data_option
@json_option
def list_teams(data: Path | None, as_json: bool) -> None:
    """List the teams that are registered.

    \b
    Example:
      meterstream teams list
    """
    from meterstream.cli.entries.known import read_catalog
    from meterstream.schemas.catalog import TeamRegistered

    found = read_catalog(connect(data)).of(TeamRegistered)
    rows = [each.data.model_dump(mode="json") for each in found]
    if as_json:
        print_json({"teams": rows})
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows], left=4)
    else:
        note("note: no teams are registered; those that send events are metered all the same")
