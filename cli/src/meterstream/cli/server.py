"""The way into ClickHouse: a running stack, a configured server, or the data of an ended stack."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meterstream.cli.connection import FILE_NAME, connect, data_directory
from meterstream.cli.errors import BadInput, Unreachable
from meterstream.cli.output import note

_NOISE: Final = re.compile(r" \((version [^()]*(\([^()]*\))?|for url [^()]*)\)")
"""What the client and server add to every error: which version and address it came from."""

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@contextlib.contextmanager
def open_clickhouse(data: Path | None, *, write: bool = False) -> Iterator["Client"]:
    """Give a client that reads (or also writes) the tables; ClickHouse's errors become BadInput.

    Where the stack of the directory has ended, its ClickHouse is started for as long as this
    lasts, on the same data.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    with contextlib.ExitStack() as stack:
        try:
            connection = connect(data)
            address = connection.clickhouse
            if connection.reader is not None and not write:
                address = connection.reader
            client = address.client()
        except Unreachable:
            directory = data_directory(data)
            if not (directory / FILE_NAME).exists():
                raise
            client = stack.enter_context(_stopped(directory))
        stack.callback(client.close)
        try:
            yield client
        except ClickHouseError as error:
            raise BadInput(_first_line(error)) from error


@contextlib.contextmanager
def _stopped(directory: Path) -> Iterator["Client"]:
    from meterstream.cli.stack.file import choose_addresses
    from meterstream.local.clickhouse import ClickHouseServer

    note(f"note: no stack runs in {directory}; reading its data")
    owner = choose_addresses(directory).owner()
    server = ClickHouseServer(
        directory / "clickhouse", owner.port, user=owner.user, password=owner.password
    )
    with server:
        yield owner.client()


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return "no answer"
    said = lines[0].partition("server response: ")[2] or lines[0]
    said = _NOISE.sub("", said)
    hint = ". `meterstream sql --write` may change tables" if "(READONLY)" in said else ""
    return said[:1000] + hint
