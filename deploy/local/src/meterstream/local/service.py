"""Our own processes as the supervisor runs them."""

import os
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from meterstream.local.errors import StartError
from meterstream.local.ports import why_closed
from meterstream.local.process import ManagedProcess

_PROBE_TIMEOUT_S = 2.0

Readiness = str | Callable[[], bool]
"""A URL that answers 200 when the service is ready, or a function that says so."""


class Child(Protocol):
    """What the supervisor starts and stops. KafkaBroker and ClickHouseServer are children too."""

    name: str

    @property
    def running(self) -> bool:
        """True while it does what it should; False when it has failed and must be restarted."""

    def start(self) -> object:
        """Start it and return when it is ready. Raises LocalStackError."""

    def restart(self) -> object:
        """Start it again after it failed; may return before it is ready."""

    def stop(self) -> None:
        """Stop it in order, by force after its own deadline; nothing if it does not run."""

    def kill(self) -> None:
        """End it at once."""

    def describe_failure(self, what: str) -> str:
        """Return one message of what happened, with its last log lines."""


@dataclass(slots=True)
class Service:
    """A process that stays until it is stopped.

    `env` is added to this process's environment. Without `ready` the service
    counts as ready when it runs.
    """

    name: str
    argv: Sequence[str]
    log_path: Path
    ready: Readiness | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 15.0
    _process: ManagedProcess | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise StartError(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises StartError with its last lines.

        One that `restart` has started already is only waited for.
        """
        process = self._process if self._process and self.running else self.restart()
        try:
            process.wait_ready(self.is_ready, timeout_s=self.start_timeout_s)
        except BaseException:
            process.kill()
            raise

    def restart(self) -> ManagedProcess:
        """Start the process and return without waiting. Raises StartError if its port is taken."""
        port = urlsplit(self.ready).port if isinstance(self.ready, str) else None
        if port is not None and (reason := why_closed(port)) is not None:
            raise StartError(f"port {port} of {self.name} {reason}, or give another port")
        self._process = ManagedProcess(
            self.name,
            self.argv,
            log_path=self.log_path,
            env=os.environ | dict(self.env),
            cwd=self.cwd,
            grace_s=self.stop_timeout_s,
        )
        self._process.start()
        return self._process

    def is_ready(self) -> bool:
        """Ask once whether the service is ready."""
        if self.ready is None:
            return self.running
        return answers_ok(self.ready) if isinstance(self.ready, str) else self.ready()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `stop_timeout_s`."""
        if self._process is not None:
            self._process.stop(timeout_s=self.stop_timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def describe_failure(self, what: str) -> str:
        """Say what happened, with the last log lines."""
        return self._process.describe_failure(what) if self._process else f"{self.name} {what}"


def answers_ok(url: str) -> bool:
    """Tell whether a GET of this URL is answered with status 200; proxies are not used."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False
