"""The entry point: commands by name, loaded when called, and errors in one line."""

import importlib
import importlib.util
import logging
import os
import sys
from typing import Any, Final, Never

import click

from meterstream.cli.errors import EXIT_CHECK_FAILED, EXIT_ENVIRONMENT, CommandError

COMMANDS: Final = {
    "demo": "meterstream.cli.commands.demo",
    "stack": "meterstream.cli.commands.stack",
    "topics": "meterstream.cli.commands.topics",
    "migrate": "meterstream.cli.commands.services",
    "meter": "meterstream.cli.commands.services",
    "sink": "meterstream.cli.commands.services",
    "publisher": "meterstream.cli.commands.services",
    "notifier": "meterstream.cli.commands.notifier",
    "generate": "meterstream.cli.commands.generate",
    "replay": "meterstream.cli.commands.replay",
    "usage": "meterstream.cli.commands.usage",
    "sql": "meterstream.cli.commands.sql",
    "dlq": "meterstream.cli.commands.dlq",
    "limits": "meterstream.cli.commands.limits",
    "credits": "meterstream.cli.commands.credits",
    "cards": "meterstream.cli.commands.cards",
    "plans": "meterstream.cli.commands.plans",
    "subscriptions": "meterstream.cli.commands.subscriptions",
    "teams": "meterstream.cli.commands.teams",
    "catalog": "meterstream.cli.commands.catalog",
    "audit": "meterstream.cli.audit",
}
"""Each command and the module that has it under its own name, in the order of `--help`."""

SERVICES: Final = frozenset({"meter", "sink", "publisher", "notifier"})

EXIT_INTERRUPTED: Final = 130


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands that are installed."""
        return [name for name, module in COMMANDS.items() if importlib.util.find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module, and return the command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name]}.{cmd_name} is no command")
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meterstream-cli", prog_name="meterstream")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the clients log.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Usage metering for AI platforms: events in Kafka, exact usage in ClickHouse.

    \b
    Try it on this machine, without Docker:
      meterstream stack                      # Kafka, ClickHouse and all services
      meterstream generate --events 10000    # in another terminal
      meterstream usage --by team
      meterstream audit                      # proves that every event is accounted for

    Commands find the stack by its directory: --data, METERSTREAM_DATA, or ./.meterstream.
    Without a stack of your own they take METERSTREAM_KAFKA_BOOTSTRAP and
    METERSTREAM_CLICKHOUSE_URL, _USER, _PASSWORD and _DATABASE.

    \b
    Exit codes: 0 all is well, 1 a check failed, 2 wrong usage,
    3 something that is needed is not there or cannot be reached.
    """
    if debug:
        os.environ["METERSTREAM_DEBUG"] = "1"
    if context.invoked_subcommand in SERVICES:
        return  # they log in a way of their own
    shown = logging.StreamHandler(sys.stderr)
    # On the handler: libraries set levels of their own on their loggers.
    shown.setLevel(logging.INFO if debug else logging.ERROR)
    shown.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, handlers=[shown])
    # The Kafka client reports each lost connection; commands say the outcome themselves.
    logging.getLogger("meterstream.kafka").setLevel(logging.INFO if debug else logging.CRITICAL)


def main(arguments: list[str] | None = None) -> Never:
    """Run the command line and exit with its code."""
    try:
        outcome: Any = cli.main(arguments, prog_name="meterstream", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("meterstream: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("METERSTREAM_DEBUG"):
            raise
        message, code = _explain(error)
        click.echo(f"meterstream: {message}", err=True)
        sys.exit(code)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, CommandError):
        return str(error), error.exit_code
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    if "meterstream.local.errors.LocalStackError" in names:
        return str(error), EXIT_ENVIRONMENT
    return (
        f"unexpected {type(error).__name__}: {error} (meterstream --debug shows where)",
        EXIT_CHECK_FAILED,
    )
