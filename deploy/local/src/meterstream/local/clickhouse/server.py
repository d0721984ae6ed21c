"""Starts and stops the embedded ClickHouse server as a process of its own."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from meterstream.local.clickhouse.version import check_server
from meterstream.local.deadlines import Deadlines
from meterstream.local.errors import LocalStackError, StartError
from meterstream.local.ports import LOOPBACK, free_ports, is_listening, why_closed
from meterstream.local.process import ManagedProcess

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_PASSWORD_VARIABLE = "METERSTREAM_CLICKHOUSE_PASSWORD"  # noqa: S105 - a variable's name
_READER_PASSWORD_VARIABLE = "METERSTREAM_CLICKHOUSE_READER_PASSWORD"  # noqa: S105

_ASK_TIMEOUT_S = 5.0


class ClickHouseServer:
    """A ClickHouse engine whose tables live in `data_dir`, on a loopback port.

    Usage: `with ClickHouseServer(path) as server: server.client()`. The port
    stays the same when the same object is stopped or killed and started again.
    The server ends when the process that started it does.
    """

    name = "clickhouse"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        user: str = "default",
        password: str = "",
        reader: str | None = None,
        reader_password: str = "",
        deadlines: Deadlines | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.user = user
        self.password = password
        self.reader = reader
        self.reader_password = reader_password
        self._port = port
        self._deadlines = deadlines or Deadlines()
        self._process: ManagedProcess | None = None

    @property
    def port(self) -> int:
        """The port on loopback."""
        if self._port is None:
            raise StartError("the ClickHouse server has no port before its first start")
        return self._port

    @property
    def url(self) -> str:
        """The address for clients: `http://127.0.0.1:PORT`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._process is None:
            raise StartError("the ClickHouse server was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the server's process lives."""
        return self._process is not None and self._process.running

    def start(self) -> Self:
        """Start the server and return when it answers queries.

        Raises StartError (with the server's last log lines) or LocalStackError
        (the directory is not writable).
        """
        if self.running:
            raise StartError("the ClickHouse server runs already")
        port = self._choose_port()
        self._make_data_dir()
        command = [sys.executable, "-m", "meterstream.local.clickhouse"]
        command += [f"--data={self.data_dir}", f"--port={port}", f"--user={self.user}"]
        command.append(f"--lock-wait={self._deadlines.lock_s}")
        if self.reader is not None:
            command.append(f"--reader={self.reader}")
        passwords = {
            _PASSWORD_VARIABLE: self.password,
            _READER_PASSWORD_VARIABLE: self.reader_password,
        }
        process = ManagedProcess(
            "ClickHouse",
            command,
            log_path=self.data_dir / "log" / "clickhouse.log",
            # The working directory's modules must not stand before the installed ones.
            env=os.environ | passwords | {"PYTHONSAFEPATH": "1"},
            grace_s=self._deadlines.stop_s,
        )
        self._process = process
        process.start()
        try:
            process.wait_ready(self._answers, timeout_s=self._deadlines.start_s)
        except BaseException:
            process.kill()
            raise
        return self

    def restart(self) -> Self:
        """Start again after a failure."""
        return self.start()

    def stop(self) -> None:
        """Stop in order (SIGTERM), or with SIGKILL when the deadline is over."""
        if self._process is not None:
            self._process.stop(timeout_s=self._deadlines.stop_s)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()

    def describe_failure(self, what: str) -> str:
        """Say what happened, with the server's last log lines."""
        return self._process.describe_failure(what) if self._process else f"ClickHouse {what}"

    def client(self, *, database: str = "default") -> "Client":
        """Return a clickhouse-connect client for the user who may do everything."""
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host=LOOPBACK,
            port=self.port,
            username=self.user,
            password=self.password,
            database=database,
        )

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _choose_port(self) -> int:
        if self._port is None:
            (self._port,) = free_ports(1)
        elif (reason := why_closed(self._port)) is not None:
            raise StartError(
                f"port {self._port} on {LOOPBACK} {reason}, or give another port for ClickHouse"
            )
        return self._port

    def _make_data_dir(self) -> None:
        try:
            (self.data_dir / "log").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalStackError(
                f"cannot write ClickHouse's data directory {self.data_dir}: "
                f"{error.strerror or error}; choose a directory that you may write to"
            ) from error

    def _answers(self) -> bool:
        if not is_listening(self.port):
            return False
        try:
            check_server(self.url, user=self.user, password=self.password, timeout_s=_ASK_TIMEOUT_S)
        except LocalStackError:
            # It listens before its tables are loaded, which may take longer than one answer.
            return False
        return True
