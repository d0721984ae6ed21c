"""A child process that cannot outlive its parent."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from meterstream.local.errors import StartError, StopError
from meterstream.local.locking import Lock, take_lock

_GUARD = Path(__file__).with_name("guard.py")
_REPORT_BYTES_MAX = 4096
_TAIL_BYTES_MAX = 64 * 1024
_POLL_S = 0.02


class ManagedProcess:
    """One command in its own session, watched by a guard process.

    The guard ends the command when this process ends in any way, kill -9
    included. Output goes to `log_path` (appended) or to `stdout`. `lock` is
    held for as long as the command lives, so that two commands never work on
    one directory.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path | None = None,
        lock: Lock | None = None,
        stdout: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log_path = log_path
        self._lock = lock
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._grace_s = grace_s
        self._stdout = stdout
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The command's process id, for as long as it runs."""
        if self._pid is None:
            raise StartError(f"{self.name} was not started")
        return self._pid

    @property
    def output(self) -> IO[bytes] | None:
        """The command's output when it was started with `stdout=PIPE`."""
        return self._guard.stdout if self._guard is not None else None

    def start(self) -> None:
        """Start the command.

        Raises StartError if it cannot be executed at all, or if another process
        holds the lock.
        """
        if self.running:
            raise StartError(f"{self.name} runs already")
        lock_fd = -1
        if self._lock is not None:
            lock_fd = take_lock(self._lock.path, self.name, wait_s=self._lock.wait_s)
        report_read, report_write = os.pipe()
        try:
            self._guard = self._spawn(report_write, lock_fd)
        finally:
            os.close(report_write)
            # The guard and the command have their own descriptors of the locked file.
            if lock_fd >= 0:
                os.close(lock_fd)
        try:
            report = _read_all(report_read)
        finally:
            os.close(report_read)
        if report.isdigit():
            self._pid = int(report)
            return
        self._guard.wait()
        reason = report.removeprefix("!") or "its guard process ended at once"
        raise StartError(f"{self.name} could not be started ({self.argv[0]}): {reason}")

    def _spawn(self, report_fd: int, lock_fd: int) -> "subprocess.Popen[bytes]":
        log: IO[bytes] | None = None
        stdout = self._stdout
        if self.log_path is not None:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            log = self.log_path.open("ab")
            self._log_start = log.tell()
            stdout = log
        guard = [sys.executable, "-I", "-S", str(_GUARD)]
        guard += [str(report_fd), str(self._grace_s), str(lock_fd)]
        try:
            return subprocess.Popen(
                [*guard, "--", *self.argv],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=subprocess.STDOUT if stdout is not None else None,
                env=self._env,
                cwd=self._cwd,
                pass_fds=(report_fd, lock_fd) if lock_fd >= 0 else (report_fd,),
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()

    @property
    def running(self) -> bool:
        """True from the start until the command has ended."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, 128 + signal if a signal ended it, None while it runs."""
        return self._guard.poll() if self._guard is not None else None

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM) and return at once."""
        self._order(b"T")

    def kill(self, *, timeout_s: float = 10.0) -> None:
        """End the command and its process group with SIGKILL and wait until they are gone."""
        self._order(b"K")
        if self.wait(timeout_s=timeout_s) is None:
            raise StopError(f"{self.name} (process {self._pid}) is still there after SIGKILL")

    def stop(self, *, timeout_s: float = 10.0) -> int:
        """SIGTERM, then SIGKILL when `timeout_s` is over; return the exit code."""
        self.terminate()
        if self.wait(timeout_s=timeout_s) is None:
            self.kill()
        return self.exit_code or 0

    def wait(self, *, timeout_s: float) -> int | None:
        """Wait for the end; return the exit code, or None if the command still runs."""
        if self._guard is None:
            return 0
        try:
            code = self._guard.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        return code

    def wait_ready(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `is_ready` says so.

        Raises StartError with the last log lines when the command ends before,
        or when `timeout_s` is over. The caller stops the command then.
        """
        deadline_s = time.monotonic() + timeout_s
        while not is_ready():
            if not self.running:
                raise StartError(self.describe_failure(f"ended with code {self.exit_code}"))
            if time.monotonic() >= deadline_s:
                raise StartError(self.describe_failure(f"was not ready after {timeout_s:.0f} s"))
            time.sleep(_POLL_S)

    def describe_failure(self, what: str, *, lines: int = 20) -> str:
        """Say what happened, with the last lines that this run wrote to the log."""
        if self.log_path is None:
            return f"{self.name} {what}"
        tail = tail_lines(self.log_path, lines=lines, start=self._log_start)
        shown = "\n".join(f"  | {line}" for line in tail) or "  | (it wrote nothing)"
        return f"{self.name} {what}; the last lines of {self.log_path}:\n{shown}"

    def _order(self, order: bytes) -> None:
        if self._guard is None or self._guard.stdin is None or not self.running:
            return
        try:
            self._guard.stdin.write(order)
            self._guard.stdin.flush()
        except (BrokenPipeError, ValueError):
            # The command ended in this moment, so there is nobody to signal.
            return


def tail_lines(path: Path, *, lines: int, start: int = 0) -> list[str]:
    """Return the last `lines` lines of a text file, none from before byte `start`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - _TAIL_BYTES_MAX))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def _read_all(fd: int) -> str:
    data = b""
    while len(data) < _REPORT_BYTES_MAX and (part := os.read(fd, _REPORT_BYTES_MAX)):
        data += part
    return data.decode(errors="replace")
