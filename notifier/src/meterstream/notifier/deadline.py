"""Ends a conversation that takes too long as a whole, however slowly the other side talks."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

AGAIN_S: Final = 0.5


class Deadline:
    """Shuts a socket down when the time is over; what waits on it gets an OSError then.

    A timeout of the socket bounds each wait for a byte, and not how many bytes come one by one.
    """

    def __init__(self, seconds: float, find: Callable[[], socket.socket | None]) -> None:
        self.is_over = False
        self._seconds = seconds
        self._find = find
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        pause_s = self._seconds
        while not self._done.wait(pause_s):
            self.is_over = True
            pause_s = AGAIN_S  # a socket that is still being connected is not there yet
            found = self._find()
            if found is not None:
                with contextlib.suppress(OSError):
                    # Of the plain socket: that of TLS would drop what another thread reads from.
                    socket.socket.shutdown(found, socket.SHUT_RDWR)
