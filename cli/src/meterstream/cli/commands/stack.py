"""`meterstream stack`: everything on this machine, until Ctrl-C."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meterstream.cli.connection import FILE_NAME, data_directory
from meterstream.cli.options import data_option
from meterstream.cli.output import note

if TYPE_CHECKING:
    from meterstream.cli.stack.embedded import Stack


@click.command()
@data_option
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    help="Of each topic, when they are made (default: 4).",
)
@click.option("--meters", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--kafka-port", type=click.IntRange(1, 65_535), help="Default: the last, or a free one."
)
@click.option("--clickhouse-port", type=click.IntRange(1, 65_535), help="Likewise.")
def stack(
    data: Path | None,
    partitions: int | None,
    meters: int,
    kafka_port: int | None,
    clickhouse_port: int | None,
) -> None:
    """Run Apache Kafka, ClickHouse and all services on this machine, until Ctrl-C.

    No Docker is needed. Data stays in the directory over restarts. Other commands find the stack
    by its connection file, DIR/stack.json, which holds the addresses and passwords and is
    readable by you alone. Everything listens on 127.0.0.1 only.

    \b
    Examples:
      meterstream stack                          # in ./.meterstream
      meterstream stack --data /srv/meterstream
      meterstream stack --kafka-port 9092 --clickhouse-port 8123
    """
    from meterstream.cli.stack.embedded import Stack

    directory = data_directory(data)
    running = Stack(
        directory,
        partitions=partitions,
        meters=meters,
        kafka_port=kafka_port,
        clickhouse_port=clickhouse_port,
        say=note,
    )
    with contextlib.suppress(KeyboardInterrupt), running:
        _show(running)
        running.watch()


def _show(running: "Stack") -> None:
    connection = running.connection
    clickhouse = connection.clickhouse
    note(f"Kafka:       {connection.bootstrap}")
    note(f"ClickHouse:  http://{clickhouse.host}:{clickhouse.port} (users and passwords in")
    note(f"             {connection.data / FILE_NAME})")
    for name, url in running.services.items():
        note(f"{name + ':':24} {url}/metrics")
    note("Ready. Ctrl-C stops all of it; the data stays.")
