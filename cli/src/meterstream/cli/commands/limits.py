"""`meterstream limits`: how much a team, and who works in it, may use."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterstream.cli.connection import Connection, connect
from meterstream.cli.entries.waiting import wait_option
from meterstream.cli.errors import BadInput
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from meterstream.cli.limits.diff import Change
    from meterstream.cli.limits.known import KnownLimit, LimitName
    from meterstream.cli.limits.states import States
    from meterstream.schemas.control import LimitSetData

MEASURES = ("credits", "tokens", "runs", "api_calls", "sessions")
WINDOWS = ("day", "month", "balance")

_Command = Callable[..., Any]


@click.group()
def limits() -> None:
    """Set limits, say where they stand, and bring them in line with a file.

    A limit is of a team, of a user, agent, project or feature within it, or of an organisation.
    Days and months are those of the owner's zone. A limit that is set in mid-window starts from
    what was used. Hard limits block at 100%; all tell at their alert levels.
    """


def owner_options(command: _Command) -> _Command:
    """Add --team and --organisation."""
    command = click.option("--organisation", metavar="ID", help="Of an organisation.")(command)
    return click.option("--team", metavar="ID", help="Of a team.")(command)


@limits.command("set")
@owner_options
@click.option("--user", metavar="ID", help="Only what this user of the team uses.")
@click.option("--agent", metavar="ID", help="Only what this agent uses.")
@click.option("--project", metavar="ID", help="Only what this project uses.")
@click.option("--feature", metavar="ID", help="Only what this feature uses.")
@click.option("--measure", type=click.Choice(MEASURES), help="What is counted.")
@click.option("--window", type=click.Choice(WINDOWS), help="In which time; or the balance.")
@click.option("--amount", metavar="N", help="Credits with up to six decimals; else whole numbers.")
@click.option("--alert", metavar="50,80,100", help="Levels in per cent, or none (default: 100).")
@click.option("--hard/--soft", "hard", default=None, help="Block at 100%, or only tell (default).")
@click.option("--id", "limit_id", metavar="ID", help="Default: made of what it is for.")
@click.option("--force", is_flag=True, help="Also for an owner that is not registered.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only say what would change.")
@wait_option
@data_option
@json_option
def set_limit(
    team: str | None,
    organisation: str | None,
    user: str | None,
    agent: str | None,
    project: str | None,
    feature: str | None,
    measure: str | None,
    window: str | None,
    amount: str | None,
    alert: str | None,
    hard: bool | None,
    limit_id: str | None,
    force: bool,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Set a limit, or change one: what is left out then stays as it is.

    The same subject, measure and window make the same limit, unless --id names another one.

    \b
    Examples:
      meterstream limits set --team acme --measure credits --window month --amount 1000 --hard \\
          --alert 50,80,100
      meterstream limits set --team acme --user ada --measure tokens --window day --amount 200000
      meterstream limits set --team acme --measure credits --window month --amount 1500.5
      meterstream limits set --team acme --id team-credits-month --soft --dry-run
      meterstream limits set --organisation acme-group --measure credits --window month \\
          --amount 5000 --hard
    """
    from meterstream.cli.limits.diff import changes
    from meterstream.cli.limits.known import read_limits
    from meterstream.cli.limits.wanted import Options

    options = Options(
        team=team,
        organisation=organisation,
        subjects={"user": user, "agent": agent, "project": project, "feature": feature},
        limit_id=limit_id,
        measure=measure,
        window=window,
        amount=amount,
        alert=alert,
        enforcement=None if hard is None else ("hard" if hard else "soft"),
    )
    owner = options.owner
    connection = connect(data)
    known = read_limits(connection, owner)
    wanted = options.data(known)
    if not force:
        _check_owners(connection, [wanted])
    _carry_out(connection, changes(known, [wanted]), dry_run, wait, as_json)


@limits.command()
@click.argument("limit_id", metavar="LIMIT")
@owner_options
@click.option("--dry-run", is_flag=True, help="Write nothing, only say what would change.")
@wait_option
@data_option
@json_option
def remove(
    limit_id: str,
    team: str | None,
    organisation: str | None,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """End a limit. What it blocked is admitted again.

    \b
    Example:
      meterstream limits remove team-credits-month --team acme
    """
    from meterstream.cli.limits.diff import removal

    connection = connect(data)
    name, last = _find(connection, limit_id, team, organisation)
    _carry_out(connection, [removal(name, last)], dry_run, wait, as_json)


@limits.command("list")
@owner_options
@data_option
@json_option
def list_limits(
    team: str | None, organisation: str | None, data: Path | None, as_json: bool
) -> None:
    """List the limits in force and where each of them stands.

    \b
    Examples:
      meterstream limits list
      meterstream limits list --team acme --json
    """
    from meterstream.cli.limits.known import read_limits
    from meterstream.cli.limits.states import read_states

    if team and organisation:
        raise BadInput("--team and --organisation: only one of them")
    connection = connect(data)
    owner = team or organisation
    known = read_limits(connection, owner)
    chosen = {
        name: last
        for name, last in sorted(known.items())
        if last.data is not None and (owner is None or owner == name.owner)
    }
    states = read_states(connection, owner)
    if as_json:
        print_json({"limits": [_as_json(name, last, states) for name, last in chosen.items()]})
        return
    _print_limits(chosen, states)
    if not chosen:
        whose = f" of {owner}" if owner else ""
        note(f"note: no limits{whose}. `meterstream limits set` sets one")
    else:
        _note_age(states, chosen)


@limits.command()
@click.argument("limit_id", metavar="LIMIT")
@owner_options
@data_option
@json_option
def show(
    limit_id: str,
    team: str | None,
    organisation: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show one limit: what it is set to, since when, and where it stands.

    \b
    Example:
      meterstream limits show team-credits-month --team acme
    """
    from meterstream.cli.limits.states import read_states, state_columns
    from meterstream.cli.limits.texts import owner_of, settings_of
    from meterstream.schemas.times import format_rfc3339

    connection = connect(data)
    name, last = _find(connection, limit_id, team, organisation)
    assert last.data is not None, "only limits in force are found"
    states = read_states(connection, name.owner)
    if as_json:
        print_json(_as_json(name, last, states))
        return
    rows = {
        "limit": limit_id,
        "of": owner_of(last.data),
        **settings_of(last.data),
        "version": str(last.version),
        "set at": format_rfc3339(last.set_at),
        **state_columns(states.of(name, last.version)),
    }
    for key, text in rows.items():
        click.echo(f"{key + ':':13} {text}")
    _note_age(states, [name])


@limits.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prune", is_flag=True, help="Remove the limits that the file does not have.")
@click.option("--force", is_flag=True, help="Also for owners that are not registered.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only print the difference.")
@wait_option
@data_option
@json_option
def apply(
    file: Path,
    prune: bool,
    force: bool,
    dry_run: bool,
    wait: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Bring limits in line with a YAML file, and print the difference.

    Nothing is written unless all of the file is right. With --prune (or `prune: true` in the file)
    those limits are removed that the file does not have, of the teams and organisations that it
    names and of no others. Harmless to repeat.

    \b
    Examples:
      meterstream limits apply limits.yaml --dry-run
      meterstream limits apply limits.yaml --prune
    """
    from meterstream.cli.limits.diff import changes
    from meterstream.cli.limits.file import read_limits_file
    from meterstream.cli.limits.known import read_limits

    wanted = read_limits_file(file)
    connection = connect(data)
    if not force:
        _check_owners(connection, wanted.limits)
    known = read_limits(connection)
    owners = wanted.owners() if prune or wanted.prune else set()
    found = changes(known, wanted.limits, prune=owners)
    _carry_out(connection, found, dry_run, wait, as_json)


def _check_owners(connection: Connection, wanted: Sequence["LimitSetData"]) -> None:
    from meterstream.cli.entries.known import check_organisations, check_teams, known_owners

    known = known_owners(connection)
    check_teams([each.team_id for each in wanted if each.team_id], known.teams)
    organisations = [each.organisation_id for each in wanted if each.organisation_id]
    check_organisations(organisations, known.organisations)


def _carry_out(
    connection: Connection, found: Sequence["Change"], dry_run: bool, wait: bool, as_json: bool
) -> None:
    """Print the changes, write them unless it is a rehearsal, and say what is in force."""
    from meterstream.cli.entries.waiting import NOTHING, govern

    if not as_json:
        for line in (line for change in found for line in change.lines()):
            click.echo(line)
    outcome = NOTHING
    if not dry_run:
        now = datetime.now(UTC)
        names = [str(change.name) for change in found]
        events = [change.event(now) for change in found]
        outcome = govern(connection, events, wait=wait, names=names)
    if as_json:
        rows = [change.as_json() for change in found]
        print_json({"changes": rows, "dry_run": dry_run, **outcome.as_json()})
    elif not found:
        note("note: nothing to change")
    elif dry_run:
        note("note: nothing was written (--dry-run)")
    else:
        note(f"note: {outcome.text()}")


def _find(
    connection: Connection, limit_id: str, team: str | None, organisation: str | None
) -> "tuple[LimitName, KnownLimit]":
    """Return a limit in force; BadInput where there is none of this name."""
    from meterstream.cli.limits.known import LimitName, read_limits
    from meterstream.cli.limits.wanted import owner_of_options

    owner = owner_of_options(team, organisation)
    name = LimitName(team or "", organisation or "", limit_id)
    last = read_limits(connection, owner).get(name)
    if last is None or last.data is None:
        raise BadInput(f"there is no limit {name}: `meterstream limits list` names them")
    return name, last


def _as_json(name: "LimitName", last: "KnownLimit", states: "States") -> dict[str, Any]:
    from meterstream.schemas.times import format_rfc3339

    assert last.data is not None, "only limits in force are shown"
    state = states.of(name, last.version)
    return {
        **last.data.model_dump(mode="json"),
        "set_at": format_rfc3339(last.set_at),
        "state": state.model_dump(mode="json") if state else None,
    }


def _print_limits(chosen: "Mapping[LimitName, KnownLimit]", states: "States") -> None:
    from meterstream.cli.limits.states import state_columns
    from meterstream.cli.limits.texts import owner_of, settings_of

    rows = []
    for name, last in chosen.items():
        assert last.data is not None, "only limits in force are shown"
        settings = settings_of(last.data)
        state = state_columns(states.of(name, last.version))
        rows.append({"of": owner_of(last.data), "limit": name.limit_id, **settings, **state})
    columns = (
        "of", "limit", "subject", "measure", "window", "amount", "alerts", "enforcement",
        "used", "left", "reached", "state", "resets",
    )  # fmt: skip
    if rows:
        print_table(columns, [[row[each] for each in columns] for row in rows], left=5)


def _note_age(states: "States", shown: Iterable["LimitName"]) -> None:
    """Say how old the knowledge of what is shown is, or that there is none."""
    from meterstream.cli.limits.age import counted_note
    from meterstream.schemas.thresholds import OWNERS

    kinds = {name.owners for name in shown}
    for owners in OWNERS:
        if owners not in kinds:
            continue
        of, option = ("", "") if owners == "teams" else (" of organisations", " --organisations")
        until = states.counted_until(owners)
        if not states.are_told(owners):
            note(f"note: no states{of} are published yet: `meterstream publisher{option}` does it")
        elif until is not None:
            note(counted_note(until, datetime.now(UTC), of and f"usage{of} "))
