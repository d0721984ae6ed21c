"""Problems in the background: each is counted, logged once per kind, and handed to a callback."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

_LOGGER: Final = logging.getLogger("meterstream.producers")
_AGAIN_AFTER_S: Final = 600.0

ErrorCallback = Callable[[Exception], None]
"""Told of each problem, in the thread where it happened. What it raises is logged."""


class Problems:
    """Tells the world about problems without drowning it: the log hears of a kind once in 10 min.

    `count(kind)` is called for each, with the name of the error's class.
    """

    def __init__(
        self, name: str, count: Callable[[str], None], callback: ErrorCallback | None
    ) -> None:
        self._name = name
        self._count = count
        self._callback = callback
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def report(self, error: Exception) -> None:
        """Count, log and pass on `error`. Never raises."""
        kind = type(error).__name__
        self._count(kind)
        with self._lock:
            now = time.monotonic()
            log = now - self._logged_at.get(kind, -_AGAIN_AFTER_S) >= _AGAIN_AFTER_S
            if log:
                self._logged_at[kind] = now
                more = self._unlogged.pop(kind, 0)
            else:
                self._unlogged[kind] = self._unlogged.get(kind, 0) + 1
        if log and more:
            _LOGGER.warning("%s: %s: %s (and %d like it)", self._name, kind, error, more)
        elif log:
            _LOGGER.warning("%s: %s: %s", self._name, kind, error)
        if self._callback is None:
            return
        try:
            self._callback(error)
        except Exception:  # the caller's code must not stop the SDK's threads
            _LOGGER.exception("%s: the error callback itself failed", self._name)
