"""`meterstream catalog`: who and what there is, from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterstream.cli.connection import Connection, connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from meterstream.cli.entries.known import KnownCatalog
    from meterstream.schemas.catalog import CatalogEvent

LISTS = (
    "organisations", "teams", "users", "memberships", "agents", "projects", "features", "plans",
    "cards",
)  # fmt: skip


@click.group()
def catalog() -> None:
    """Publish and list what the catalog holds: teams, users, agents, plans, cards and so on."""


@catalog.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Write nothing, only say what would change.")
@wait_option
@data_option
@json_option
def publish(file: Path, dry_run: bool, wait: bool, data: Path | None, as_json: bool) -> None:
    """Publish the entries of a YAML file that are not in the catalog yet, or say something else.

    The file has a list for each kind, with the fields that docs/events.md names: organisations,
    teams, users, memberships, agents, projects, features, plans, cards. Nothing is written unless
    all of the file is right. Harmless to repeat.

    \b
    Examples:
      meterstream catalog publish catalog.yaml --dry-run
      meterstream catalog publish catalog.yaml
    """
    publish_file(file, None, {}, dry_run=dry_run, wait=wait, data=data, as_json=as_json)


@catalog.command("list")
@click.argument("kind", type=click.Choice(LISTS))
@data_option
@json_option
def list_entries(kind: str, data: Path | None, as_json: bool) -> None:
    """List the entries of one kind with all their fields.

    \b
    Example:
      meterstream catalog list agents --json
    """
    from meterstream.cli.entries.catalog_file import KINDS
    from meterstream.cli.entries.known import read_catalog

    found = read_catalog(connect(data)).of(KINDS[kind])
    rows = [each.data.model_dump(mode="json") for each in found]
    if as_json:
        print_json({kind: rows})
        return
    if not rows:
        note(f"note: no {kind} are registered")
        return
    print_table(list(rows[0]), [list(row.values()) for row in rows], left=len(rows[0]))


def publish_file(
    file: Path,
    only: str | None,
    extra: dict[str, Any],
    *,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Publish what a file says, of all kinds or one; `extra` stands in place of its fields."""
    from meterstream.cli.entries.catalog_file import CatalogFile
    from meterstream.cli.entries.known import read_catalog

    source = CatalogFile(file)
    wanted = source.read(only, extra)
    connection = connect(data)
    known = read_catalog(connection)
    news = [each.event for each in source.judge(known, wanted)]
    same = len(wanted) - len(news)
    carry_out(connection, known, news, same=same, dry_run=dry_run, wait=wait, as_json=as_json)


def carry_out(
    connection: Connection,
    known: "KnownCatalog",
    news: "Sequence[CatalogEvent]",
    *,
    same: int,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Say what changes, write it unless it is a rehearsal, and say what became of it."""
    from meterstream.cli.entries.waiting import NOTHING
    from meterstream.cli.entries.waiting import publish as write
    from meterstream.schemas.catalog import catalog_key

    keys = [catalog_key(event) for event in news]
    if not as_json:
        for key in keys:
            click.echo(f"{'~' if key in known.by_key else '+'} {key}")
    outcome = NOTHING if dry_run else write(connection, news, wait=wait, names=keys)
    if as_json:
        rows = [
            {"key": key, "change": "changed" if key in known.by_key else "added"} for key in keys
        ]
        print_json({"changes": rows, "unchanged": same, "dry_run": dry_run, **outcome.as_json()})
    elif not news:
        note("note: nothing to change")
    elif dry_run:
        note("note: nothing was written (--dry-run)")
    else:
        note(f"note: {outcome.text()}")
