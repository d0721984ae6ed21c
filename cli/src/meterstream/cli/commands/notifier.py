"""`meterstream notifier`: the service, and the notifications that it gave up."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from meterstream.cli.commands.services import point_at_stack, run_service
from meterstream.cli.errors import BadInput, Unreachable
from meterstream.cli.options import json_option
from meterstream.cli.output import note, print_json, print_table
from meterstream.schemas.times import format_rfc3339

if TYPE_CHECKING:
    from meterstream.notifier.dead import DeadNotification
    from meterstream.notifier.settings import NotifierSettings

SERVICE: Final = "meterstream.notifier.app"


@click.group(invoke_without_command=True, add_help_option=False)
@click.option("-h", "--help", "wants_help", is_flag=True)
@click.pass_context
def notifier(context: click.Context, wants_help: bool) -> int:
    """Run the notifier: threshold events to webhooks and email (its own --help tells more)."""
    if context.invoked_subcommand is not None:
        return 0
    return run_service(SERVICE, ("--help",) if wants_help else ())


@notifier.group()
def dead() -> None:
    """List and retry notifications that were given up."""


@dead.command("list")
@click.option("--destination", help="Only of this one.")
@json_option
def list_dead(destination: str | None, as_json: bool) -> None:
    """List the notifications that were given up and are not delivered yet, the oldest first.

    \b
    Examples:
      meterstream notifier dead list
      meterstream notifier dead list --destination billing --json
    """
    letters = [each for each in _read() if destination in {None, each.destination}]
    if as_json:
        print_json([letter.model_dump(mode="json") for letter in letters])
        return
    if not letters:
        note("note: no notification is on the list")
        return
    print_table(
        ["delivery", "given up at", "destination", "event", "attempts", "error"],
        [
            [
                letter.delivery_id,
                format_rfc3339(letter.given_up_at),
                letter.destination,
                letter.event_id,
                letter.attempts,
                letter.error,
            ]
            for letter in letters
        ],
        left=4,
    )
    note("note: `meterstream notifier dead retry` sends them once more")


@dead.command("retry")
@click.argument("deliveries", nargs=-1, metavar="[DELIVERY]...")
@click.option("--destination", help="Only of this one.")
@click.option("--dry-run", is_flag=True, help="Send nothing, only say what would be sent.")
@json_option
def retry_dead(
    deliveries: tuple[str, ...], destination: str | None, dry_run: bool, as_json: bool
) -> int:
    """Send notifications of the list once more, all of them or those named.

    Each keeps its webhook-id or Message-ID, so a receiver knows one that it has already. What is
    delivered leaves the list. Needs METERSTREAM_NOTIFIER_FILE and the secrets that it names, as
    the notifier does; exit code 1 if any could not be delivered.

    \b
    Examples:
      meterstream notifier dead retry --dry-run
      meterstream notifier dead retry --destination billing
    """
    from meterstream.notifier.dead import DeadLetters
    from meterstream.notifier.file import read_file
    from meterstream.notifier.retry import retry

    letters = [
        each
        for each in _read()
        if destination in {None, each.destination}
        and (not deliveries or each.delivery_id in deliveries)
    ]
    missing = set(deliveries) - {each.delivery_id for each in letters}
    if missing:
        raise BadInput(
            f"{', '.join(sorted(missing))}: not on the list; `meterstream notifier dead list`"
            " names what is"
        )
    rows: list[tuple[str, str, str, str]] = []
    if dry_run:
        rows = [(each.delivery_id, each.destination, "would be sent", "") for each in letters]
    else:
        settings = _settings()
        with _ours():
            destinations = read_file(settings.file(), settings.notifier_timeout_seconds)
            for done in retry(letters, destinations, DeadLetters(settings)):
                letter = done.letter
                rows.append((letter.delivery_id, letter.destination, done.outcome, done.reason))
    names = ("delivery", "destination", "outcome", "reason")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif rows:
        print_table(names, rows, left=4)
    else:
        note("note: nothing to retry")
    return 1 if any(outcome in {"failed", "left"} for _, _, outcome, _ in rows) else 0


def _settings() -> "NotifierSettings":
    from meterstream.notifier.settings import load_settings

    point_at_stack()
    with _ours():
        return load_settings()


def _read() -> "list[DeadNotification]":
    from meterstream.notifier.dead import read_dead

    with _ours():
        return read_dead(_settings())


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Give the notifier's errors the exit codes of commands."""
    from meterstream.notifier.errors import FileInvalid, KafkaUnavailable, SettingsInvalid

    try:
        yield
    except (FileInvalid, SettingsInvalid) as error:
        raise BadInput(str(error)) from error
    except KafkaUnavailable as error:
        raise Unreachable(str(error)) from error
