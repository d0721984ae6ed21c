"""The services as commands, and `migrate`: thin, for each has its own main and settings."""

import importlib
import os
from pathlib import Path
from typing import Any, Final

import click

from meterstream.cli.connection import FILE_NAME, connect, data_directory
from meterstream.cli.options import data_option, json_option
from meterstream.cli.output import print_json

PASS_ON: Final[dict[str, Any]] = {"ignore_unknown_options": True, "help_option_names": []}


def point_at_stack() -> None:
    """Let the environment name the stack that runs here, unless it names another Kafka."""
    if (
        "METERSTREAM_KAFKA_BOOTSTRAP" not in os.environ
        and (data_directory(None) / FILE_NAME).exists()
    ):
        os.environ.update(connect(None).environment())


def run_service(module: str, arguments: tuple[str, ...], **given: Any) -> int:
    """Call a service's main, pointed at the stack that runs here unless the environment says."""
    point_at_stack()
    outcome: object = importlib.import_module(module).main(list(arguments), **given)
    return outcome if isinstance(outcome, int) else 0


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def meter(arguments: tuple[str, ...]) -> int:
    """Run the meter: events in, the journal out (its own --help tells more)."""
    from meterstream.cli.ledger import read_ledger

    return run_service("meterstream.streams.app", arguments, ledger=read_ledger)


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def publisher(arguments: tuple[str, ...]) -> int:
    """Run the publisher: from the journal to dead letters (its own --help tells more)."""
    return run_service("meterstream.streams.publisher", arguments)


@click.command(context_settings=PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sink(arguments: tuple[str, ...]) -> int:
    """Run the sink: from the journal to ClickHouse (its own --help tells more)."""
    return run_service("meterstream.sinks.app", arguments)


@click.command()
@click.option("--cluster", help="Make replicated tables on this cluster.")
@data_option
@json_option
def migrate(cluster: str | None, data: Path | None, as_json: bool) -> None:
    """Bring ClickHouse to the tables, views and functions of this release. Harmless to repeat.

    \b
    Examples:
      meterstream migrate
      METERSTREAM_CLICKHOUSE_URL=https://ch:8443 meterstream migrate --cluster main
    """
    from meterstream.cli.errors import CheckFailed
    from meterstream.sinks import migrate as migrations
    from meterstream.sinks.errors import SinkError

    address = connect(data).clickhouse
    with address.client(database=None) as client:
        try:
            done = migrations.migrate(client, address.database, cluster)
        except SinkError as error:
            raise CheckFailed(str(error)) from error
    if as_json:
        print_json({"database": address.database, "applied": done})
    else:
        click.echo("\n".join(f"applied {name}" for name in done) or "nothing to do")
