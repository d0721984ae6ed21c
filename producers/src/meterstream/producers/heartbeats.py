"""One background thread that sends the heartbeats of all sessions of a meter."""

import heapq
import threading
import time
from collections.abc import Callable


class Heartbeats:
    """Calls each registered function at its interval until it is removed.

    The thread starts with the first session and ends with the last. The functions must not raise.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []
        self._beats: dict[int, tuple[Callable[[], object], float]] = {}
        self._next_key = 0
        self._thread: threading.Thread | None = None

    def add(self, beat: Callable[[], object], interval_s: float) -> int:
        """Have `beat` called every `interval_s` seconds, the first time after one; return a key."""
        with self._changed:
            key = self._next_key
            self._next_key += 1
            self._beats[key] = (beat, interval_s)
            heapq.heappush(self._due, (time.monotonic() + interval_s, key))
            if self._thread is None or not self._thread.is_alive():  # a fork leaves it behind
                self._thread = threading.Thread(
                    target=self._run, name="meterstream-heartbeat", daemon=True
                )
                self._thread.start()
            self._changed.notify()
            return key

    def remove(self, key: int) -> None:
        """Stop the calls for `key`; one that is under way may still end."""
        with self._changed:
            self._beats.pop(key, None)
            self._changed.notify()

    def _run(self) -> None:
        while (beat := self._next()) is not None:
            beat()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while self._beats:
                due, key = self._due[0]
                if key not in self._beats:
                    heapq.heappop(self._due)
                    continue
                wait_s = due - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                beat, interval_s = self._beats[key]
                heapq.heapreplace(self._due, (max(due + interval_s, time.monotonic()), key))
                return beat
            self._due.clear()
            self._thread = None
            return None
