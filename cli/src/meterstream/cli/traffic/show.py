"""How what was sent is told."""

import click

from meterstream.cli.output import counts_line, print_json

from .job import Sent


def show_sent(sent: Sent, as_json: bool) -> None:
    """Print what the broker acknowledged, and with what it can be sent again."""
    if as_json:
        print_json(sent.as_dict())
        return
    click.echo(f"sent: {counts_line(sent.totals.as_dict())}")
    click.echo(f"times end at {sent.end_at}, seed {sent.seed}, source {sent.source}")
