"""A process that was told to end does end, whatever its clients still wait for."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

STOP_SECONDS: Final = 20.0
"""Below the half minute that supervisors give a service, and above what an orderly end takes."""
EXIT_STATUS: Final = 1
_LOOK_SECONDS: Final = 0.5

log = logging.getLogger("meterstream.meter")


class Ending:
    """Ends the process when `is_stopping` has been true for `STOP_SECONDS` without `done`.

    Without a broker a consumer may wait for it for minutes before it leaves its group. Nothing is
    lost by a hard end: what was decided stands in the journal, and all else is decided again.
    """

    def __init__(self, is_stopping: Callable[[], bool], seconds: float = STOP_SECONDS) -> None:
        self._is_stopping = is_stopping
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ending", daemon=True)

    def __enter__(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """The process has come to its end by itself."""
        self._done.set()

    def _watch(self) -> None:
        while not self._is_stopping():
            if self._done.wait(_LOOK_SECONDS):
                return
        if not self._done.wait(self._seconds):
            log.error(
                "not ended %g s after it was told to: ends at once, as by a kill; nothing is lost",
                self._seconds,
            )
            logging.shutdown()
            os._exit(EXIT_STATUS)
