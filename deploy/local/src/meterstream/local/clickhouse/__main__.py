"""`python -m meterstream.local.clickhouse --data DIR --port PORT`: the engine as an HTTP server."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from meterstream.local.errors import LocalStackError, StartError
from meterstream.local.locking import LOCK_WAIT_S, take_lock
from meterstream.local.ports import LOOPBACK

PASSWORD_VARIABLE = "METERSTREAM_CLICKHOUSE_PASSWORD"  # noqa: S105 - a variable's name
READER_PASSWORD_VARIABLE = "METERSTREAM_CLICKHOUSE_READER_PASSWORD"  # noqa: S105
_BACKLOG = 256
_STOP_TIMEOUT_S = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _serve(options)
    except LocalStackError as error:
        sys.stderr.write(f"meterstream.local.clickhouse: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m meterstream.local.clickhouse",
        description="The ClickHouse engine behind its HTTP interface, on 127.0.0.1 only.",
        epilog=f"Passwords come from {PASSWORD_VARIABLE} and {READER_PASSWORD_VARIABLE}.",
    )
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--port", type=int, required=True, help="the TCP port")
    parser.add_argument("--user", default="default", help="the user who may do everything")
    parser.add_argument("--reader", help="a user who may only read (default: none)")
    parser.add_argument(
        "--lock-wait",
        type=float,
        default=LOCK_WAIT_S,
        metavar="SECONDS",
        help="how long to wait for another server on the same data to end (default: %(default)s)",
    )
    return parser


def _serve(options: argparse.Namespace) -> None:
    # They take a second and hundreds of megabytes, so that --help does not wait for them.
    import uvicorn

    from meterstream.local.clickhouse.auth import User
    from meterstream.local.clickhouse.engine import Engine
    from meterstream.local.clickhouse.http import HttpSettings, make_app

    users = [User(options.user, os.environ.get(PASSWORD_VARIABLE, ""))]
    if options.reader:
        reader_password = os.environ.get(READER_PASSWORD_VARIABLE, "")
        users.append(User(options.reader, reader_password, read_only=True))
    data_dir: Path = options.data.absolute()
    # Two engines on one directory would destroy it. The lock ends with this process.
    take_lock(data_dir / "lock", "ClickHouse", wait_s=options.lock_wait)
    listener = _listen(options.port)
    engine = Engine(data_dir / "engine")
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(engine, HttpSettings(users=tuple(users))),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_TIMEOUT_S,
            timeout_keep_alive=60,
        )
    )
    server.run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    # Named as TCP, for then asyncio turns off Nagle's delay, which costs 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        raise StartError(
            f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; "
            "stop what listens there, or give another port"
        ) from error
    listener.listen(_BACKLOG)
    return listener


if __name__ == "__main__":
    sys.exit(main())
