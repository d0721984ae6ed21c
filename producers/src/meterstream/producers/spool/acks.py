"""What the broker has acknowledged of one log: a low mark, and what lies above it out of order."""

import threading
from collections.abc import Callable

from meterstream.producers.exceptions import EventRefused

Watcher = Callable[[EventRefused | None], None]
"""Called once, when the event is acknowledged (None) or refused for good (why)."""


class Acks:
    """Everything below `low` is settled: acknowledged, refused or known to be lost.

    Acknowledgements of different partitions arrive out of order, so a set holds the few above.
    Watchers are called without the lock, in the thread that settles.
    """

    def __init__(self, low: int = 0) -> None:
        self._lock = threading.Lock()
        self._low = low
        self._above: set[int] = set()
        self._refused: dict[int, EventRefused] = {}
        self._watchers: dict[int, list[Watcher]] = {}
        self._furthest: dict[int, int] = {}

    @property
    def low(self) -> int:
        """The lowest sequence number that is not settled."""
        return self._low

    @property
    def settled_above(self) -> int:
        """How many are settled above `low`."""
        return len(self._above)

    def is_settled(self, seq: int) -> bool:
        """Tell whether `seq` is acknowledged, refused or lost."""
        return seq < self._low or seq in self._above

    def refusal(self, seq: int) -> EventRefused | None:
        """Return why `seq` was refused, None if it was not."""
        return self._refused.get(seq)

    def reached(self, partition: int | None, offset: int | None) -> None:
        """Note where an event stands that is acknowledged; to be called before `settle`.

        The broker does not always tell an offset: it is None, or below 0, for an event that it had
        taken in an earlier attempt.
        """
        if partition is None:
            return
        if offset is not None and offset >= 0:
            self._furthest[partition] = max(offset, self._furthest.get(partition, 0))
        else:
            self._furthest.pop(partition, None)

    def furthest(self, partition: int) -> int | None:
        """Return an offset that no settled event of this log lies behind; None if it is unknown.

        So nothing needs to be kept for each event.
        """
        return self._furthest.get(partition)

    def settle(self, seq: int, refused: EventRefused | None = None) -> None:
        """Note that `seq` needs no further attempt; `refused` says why, if it did not arrive."""
        with self._lock:
            if seq < self._low or seq in self._above:
                return
            if refused is not None:
                self._refused[seq] = refused
            self._above.add(seq)
            while self._low in self._above:
                self._above.remove(self._low)
                self._low += 1
            watchers = self._watchers.pop(seq, ())
        for watcher in watchers:
            watcher(refused)

    def watch(self, seq: int, watcher: Watcher) -> None:
        """Have `watcher` called when `seq` is settled; at once, if it is already."""
        with self._lock:
            if not self.is_settled(seq):
                self._watchers.setdefault(seq, []).append(watcher)
                return
            refused = self._refused.get(seq)
        watcher(refused)

    def unwatch(self, seq: int, watcher: Watcher) -> None:
        """Forget `watcher`, if it was not called yet."""
        with self._lock:
            watchers = self._watchers.get(seq, [])
            if watcher in watchers:
                watchers.remove(watcher)
                if not watchers:
                    del self._watchers[seq]
