"""A process that was told to end does end."""

import subprocess
import sys

from meterstream.streams.ending import EXIT_STATUS

_PROCESS = """
import threading, sys
from meterstream.streams.ending import Ending
with Ending(lambda: True, 0.1):
    threading.Event().wait(float(sys.argv[1]))
"""


def status_of(seconds: str) -> int:
    """Return the exit status of a process that goes on for so long after it was told to end."""
    command = [sys.executable, "-c", _PROCESS, seconds]
    return subprocess.run(command, check=False, timeout=30).returncode


def test_what_does_not_end_by_itself_is_ended() -> None:
    """After its time, and with a status that is not that of an orderly end."""
    assert status_of("60") == EXIT_STATUS


def test_what_ends_in_time_is_let_be() -> None:
    """Its own status is kept."""
    assert status_of("0") == 0
