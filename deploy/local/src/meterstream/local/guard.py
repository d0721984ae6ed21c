"""Runs one command and ends it when the parent is gone.

Started as a script by `meterstream.local.process`, with nothing but the
standard library, as `python -I -S guard.py REPORT_FD GRACE_S LOCK_FD -- COMMAND...`.

- Standard input is a pipe from the parent. Its end means that the parent died,
  by whatever signal: then the command gets SIGTERM, and SIGKILL when the grace
  is over. The kernel closes pipes also after kill -9, on Linux and on macOS.
- Bytes on that pipe are orders: `T` sends SIGTERM, `K` SIGKILL. Only this
  process reaps the command, so a signal can never hit a reused process id.
- LOCK_FD (-1 for none) is an open, locked file. The command inherits it, so the
  lock is held until both this process and the command are gone.
- The command's process id, or `!` and the reason why it could not be started,
  is written to REPORT_FD.

The command leads a session of its own: a Ctrl-C at the terminal reaches only
the parent, which then stops its children in its own order. Whatever the command
leaves in its process group is killed when the command has ended.
"""

import os
import select
import signal
import subprocess
import sys
import time

_WAIT_LIMIT_S = 0.5


def main(arguments: list[str]) -> int:
    """Run the command to its end; return its exit code, 128 + signal, or 127 if it cannot run."""
    report_fd, grace_s, lock_fd = int(arguments[0]), float(arguments[1]), int(arguments[2])
    command = arguments[4:]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    wake_fd, tell_fd = os.pipe()
    os.set_blocking(tell_fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell_fd, warn_on_full_buffer=False)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Ignored signals are inherited; the command must see the defaults.
            preexec_fn=_restore_signals,  # noqa: PLW1509 - this process has one thread
            pass_fds=(lock_fd,) if lock_fd >= 0 else (),
        )
    except OSError as error:
        os.write(report_fd, f"!{error}".encode())
        return 127
    os.write(report_fd, str(child.pid).encode())
    os.close(report_fd)
    _close_output()
    try:
        return _watch(child, wake_fd, grace_s)
    finally:
        _kill_group(child.pid)


def _restore_signals() -> None:
    for restored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(restored, signal.SIG_DFL)


def _close_output() -> None:
    """Let go of the command's output, so that its reader sees its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _watch(child: "subprocess.Popen[bytes]", wake_fd: int, grace_s: float) -> int:
    watched = [sys.stdin.fileno(), wake_fd]
    kill_at: float | None = None
    while (code := child.poll()) is None:
        if kill_at is not None and time.monotonic() >= kill_at:
            _kill_group(child.pid)
        ready, _, _ = select.select(watched, [], [], _WAIT_LIMIT_S)
        if wake_fd in ready:
            os.read(wake_fd, 512)
        if sys.stdin.fileno() in ready:
            orders = os.read(sys.stdin.fileno(), 512)
            if b"K" in orders:
                _kill_group(child.pid)
            elif orders:
                child.terminate()
            else:
                watched.remove(sys.stdin.fileno())
                child.terminate()
                # A stopped process acts on no signal but SIGKILL.
                child.send_signal(signal.SIGCONT)
                kill_at = time.monotonic() + grace_s
    return code if code >= 0 else 128 - code


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody is left in the group (macOS says EPERM when only zombies are).
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
