"""Starts children in order, restarts those that fail, and stops them in reverse order.

Ctrl-C and SIGTERM stop everything in order; a second Ctrl-C kills what is left.
When this process itself is killed, each child's guard ends the child.
"""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from meterstream.local.errors import LocalStackError, StartError
from meterstream.local.service import Child

_TICK_S = 0.1
_LOG_CHECK_S = 5.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOG_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often a child may fail: more than `limit` times within `window_s` is the end."""

    limit: int = 5
    window_s: float = 300.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0

    def pause_s(self, failures: int) -> float:
        """Return how long to wait after that many failures in the window (1 and up)."""
        return float(min(self.first_pause_s * 2 ** (failures - 1), self.longest_pause_s))


@dataclass(frozen=True, slots=True)
class StackEvent:
    """Something worth telling the user about a child."""

    kind: Literal["starting", "ready", "failed", "restarting", "stopping", "stopped", "killed"]
    name: str
    detail: str = ""


@dataclass(slots=True)
class _Watched:
    child: Child
    failures: deque[float] = field(default_factory=deque)
    restart_at: float | None = None


class Supervisor:
    """Runs children until it is told to stop.

    Usage: `with Supervisor(children) as supervisor: supervisor.run()`. Entering
    starts them in the given order, each one when the one before it is ready;
    `at_once` starts services that do not need each other, and then waits for all.
    Leaving stops them in reverse order. `on_event` is called from the thread
    that uses the supervisor.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        at_once: bool = False,
        policy: RestartPolicy | None = None,
        on_event: Callable[[StackEvent], None] = lambda _event: None,
        log_dir: Path | None = None,
    ) -> None:
        self._watched = [_Watched(child) for child in children]
        self._at_once = at_once
        self._policy = policy or RestartPolicy()
        self._tell = on_event
        self._log_dir = log_dir
        self._started: list[_Watched] = []
        self._stop_asked = threading.Event()
        self._handlers: dict[signal.Signals, Any] = {}
        self._next_log_check = 0.0

    def start(self) -> None:
        """Start all children in order.

        Raises LocalStackError of the first that does not start, after those
        before it were stopped.
        """
        try:
            if self._at_once:
                for watched in self._watched:
                    self._begin(watched)
                    watched.child.restart()
            for watched in self._watched:
                if not self._at_once:
                    self._begin(watched)
                watched.child.start()
                self._tell(StackEvent("ready", watched.child.name))
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Watch the children until Ctrl-C, SIGTERM or `ask_to_stop`.

        Raises StartError when a child failed more often than the policy allows;
        leaving the context then stops the others.
        """
        # An interrupt is how a user ends the stack, so it is no error.
        with contextlib.suppress(KeyboardInterrupt):
            while not self._stop_asked.wait(_TICK_S):
                self.tick()

    def tick(self) -> None:
        """Look at every child once, and restart what failed and waited long enough."""
        now_s = time.monotonic()
        for watched in self._started:
            if watched.restart_at is not None:
                if now_s >= watched.restart_at:
                    self._restart(watched)
            elif not watched.child.running:
                self._failed(watched, "ended by itself")
        if self._log_dir is not None and now_s >= self._next_log_check:
            self._next_log_check = now_s + _LOG_CHECK_S
            for path in self._log_dir.glob("*.log"):
                rotate(path)

    def ask_to_stop(self) -> None:
        """Make `run` return; may be called from any thread."""
        self._stop_asked.set()

    def stop(self) -> None:
        """Stop all children in reverse order; on a further Ctrl-C kill those that are left."""
        while self._started:
            child = self._started[-1].child
            try:
                self._tell(StackEvent("stopping", child.name))
                child.stop()
                self._tell(StackEvent("stopped", child.name))
            except KeyboardInterrupt:
                self._kill_all()
                return
            except LocalStackError as error:
                # The others must be stopped all the same.
                self._tell(StackEvent("failed", child.name, str(error)))
            self._started.pop()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # SIGTERM takes the same way as Ctrl-C, and SIGINT works in a shell's background too.
            for number in _STOP_SIGNALS:
                self._handlers[number] = signal.signal(number, signal.default_int_handler)
        try:
            self.start()
        except BaseException:
            self._restore_signals()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._restore_signals()

    def _begin(self, watched: _Watched) -> None:
        self._started.append(watched)
        self._tell(StackEvent("starting", watched.child.name))

    def _failed(self, watched: _Watched, what: str) -> None:
        now_s = time.monotonic()
        failures = watched.failures
        failures.append(now_s)
        while failures and failures[0] < now_s - self._policy.window_s:
            failures.popleft()
        message = watched.child.describe_failure(what)
        self._tell(StackEvent("failed", watched.child.name, message))
        if len(failures) > self._policy.limit:
            raise StartError(
                f"{message}\n{watched.child.name} failed {len(failures)} times within "
                f"{self._policy.window_s:.0f} s, so it is not started again"
            )
        watched.restart_at = now_s + self._policy.pause_s(len(failures))

    def _restart(self, watched: _Watched) -> None:
        watched.restart_at = None
        self._tell(StackEvent("restarting", watched.child.name))
        try:
            watched.child.restart()
        except LocalStackError as error:
            self._failed(watched, f"could not be restarted: {error}")

    def _kill_all(self) -> None:
        for watched in reversed(self._started):
            watched.child.kill()
            self._tell(StackEvent("killed", watched.child.name))
        self._started.clear()

    def _restore_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def rotate(path: Path, *, limit_bytes: int = LOG_BYTES_MAX) -> bool:
    """Move a log's text to `NAME.1` when it is larger than the limit; tell whether it was.

    The file itself is emptied, not renamed: its writer has it open for appending.
    """
    if not path.is_file() or path.stat().st_size <= limit_bytes:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True
