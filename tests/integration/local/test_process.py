"""Child processes: started, watched, ended, and never left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.waiting import eventually

from meterstream.local.errors import StartError
from meterstream.local.locking import Lock, take_lock
from meterstream.local.process import ManagedProcess, tail_lines

_WAIT = "signal.alarm(600); signal.pause()"
_SLEEP = [sys.executable, "-c", f"import signal; {_WAIT}"]
_STUBBORN = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
{_WAIT}
"""
_PARENT = f"""
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
from meterstream.local.process import ManagedProcess
process = ManagedProcess("child", sys.argv[2:], grace_s=float(sys.argv[1]))
process.start()
os.write(1, b"child %d\\n" % process.pid)
{_WAIT}
"""


def _child_of(parent: "subprocess.Popen[str]") -> int:
    """Return the pid that the parent tells; the child may write to the same pipe."""
    assert parent.stdout is not None
    for line in parent.stdout:
        if found := re.search(r"child (\d+)", line):
            return int(found[1])
    raise AssertionError("the parent ended and told no child")


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("last_signal", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_the_parent_dies(last_signal: signal.Signals) -> None:
    """However the parent ends, its child ends too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, "5", *_SLEEP], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = _child_of(parent)
    assert psutil.pid_exists(child)
    parent.send_signal(last_signal)
    parent.wait(30)
    eventually(lambda: _gone(child), 30, "the child is gone")
    parent.stdout.close()


def test_a_child_that_ignores_sigterm_is_killed_when_the_parent_is_gone() -> None:
    """After the grace nothing can stay."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, "0.2", sys.executable, "-c", _STUBBORN],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = _child_of(parent)
    parent.kill()
    parent.wait(30)
    eventually(lambda: _gone(child), 30, "the stubborn child is gone")
    parent.stdout.close()


def test_a_stopped_child_ends_too_when_the_parent_is_gone() -> None:
    """A child that was paused gets its end as well."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, "5", *_SLEEP], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = _child_of(parent)
    os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.wait(30)
    eventually(lambda: _gone(child), 30, "the paused child is gone")
    parent.stdout.close()


def test_what_a_command_leaves_behind_ends_with_it() -> None:
    """Grandchildren in the command's process group do not outlive it."""
    code = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True)"
    process = ManagedProcess(
        "family", [sys.executable, "-c", code, *_SLEEP], stdout=subprocess.PIPE
    )
    process.start()
    assert process.output is not None
    grandchild = int(process.output.readline())
    assert process.wait(timeout_s=30) == 0
    eventually(lambda: _gone(grandchild), 30, "the grandchild is gone")
    process.output.close()


def test_stop_ends_a_stubborn_command_after_its_deadline(tmp_path: Path) -> None:
    """A command that ignores SIGTERM gets SIGKILL, and its exit code says so."""
    log = tmp_path / "log"
    process = ManagedProcess("stubborn", [sys.executable, "-c", _STUBBORN], log_path=log)
    process.start()
    process.wait_ready(lambda: "ready" in log.read_text(), timeout_s=30)
    assert process.stop(timeout_s=0.2) == 128 + signal.SIGKILL
    assert not process.running


def test_the_exit_code_comes_through() -> None:
    """The command's own exit code is what the parent sees."""
    process = ManagedProcess("seven", [sys.executable, "-c", "raise SystemExit(7)"])
    process.start()
    assert process.wait(timeout_s=30) == 7
    assert process.exit_code == 7


def test_a_command_that_is_not_there_is_told() -> None:
    """The error names the command."""
    process = ManagedProcess("ghost", ["/nowhere/ghost"])
    with pytest.raises(StartError, match=r"ghost could not be started .*/nowhere/ghost"):
        process.start()
    assert not process.running


def test_a_failed_start_shows_this_runs_last_lines_only(tmp_path: Path) -> None:
    """Lines of an earlier run would lead the reader astray."""
    log = tmp_path / "log"
    log.write_text("an old line\n")
    process = ManagedProcess(
        "broken", [sys.executable, "-c", "raise SystemExit('out of luck')"], log_path=log
    )
    process.start()
    with pytest.raises(StartError, match=r"ended with code 1") as caught:
        process.wait_ready(lambda: False, timeout_s=30)
    assert "out of luck" in str(caught.value)
    assert "an old line" not in str(caught.value)


def test_a_start_that_takes_too_long_is_told(tmp_path: Path) -> None:
    """The deadline is in the message."""
    process = ManagedProcess("slow", _SLEEP, log_path=tmp_path / "log")
    process.start()
    with pytest.raises(StartError, match="not ready after 0 s"):
        process.wait_ready(lambda: False, timeout_s=0.1)
    process.kill()


def test_a_lock_lasts_as_long_as_the_command(tmp_path: Path) -> None:
    """Another process gets the directory when the command has ended, not before."""
    lock = tmp_path / "lock"
    process = ManagedProcess("holder", _SLEEP, lock=Lock(lock))
    process.start()
    with pytest.raises(StartError, match="another process works on"):
        take_lock(lock, "second", wait_s=0.1)
    process.kill()
    os.close(take_lock(lock, "second", wait_s=10))


def test_a_lock_outlives_a_killed_guard(tmp_path: Path) -> None:
    """While the command itself lives, nobody else may work on its directory."""
    lock = tmp_path / "lock"
    process = ManagedProcess("holder", _SLEEP, lock=Lock(lock))
    process.start()
    command = psutil.Process(process.pid)
    guard = command.parent()
    assert guard is not None
    guard.kill()
    process.wait(timeout_s=30)
    with pytest.raises(StartError, match="another process works on"):
        take_lock(lock, "second", wait_s=0.1)
    command.kill()
    os.close(take_lock(lock, "second", wait_s=10))


def test_the_tail_of_a_log_survives_what_is_no_text(tmp_path: Path) -> None:
    """Broken bytes and empty lines do not hide the rest; a missing file has no lines."""
    log = tmp_path / "log"
    log.write_bytes(b"one\n\n\xfftwo\nthree")
    assert tail_lines(log, lines=2) == ["\ufffdtwo", "three"]
    assert tail_lines(tmp_path / "none", lines=2) == []
