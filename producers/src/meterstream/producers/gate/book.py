"""What this process has reserved, and what it used and cannot see counted yet.

Each applicable limit is charged when a run is reserved (`held`), and relieved when the topic tells
that the run's own event was counted: when the state of the limit, or the heartbeat of its
partition, has an `events_position` behind the event; for an organisation's limit, when a heartbeat
has `counted` the event. So a run is never left out between its end and its being counted, and for
a moment it may count twice.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final

from .amounts import Amounts
from .index import Cell, Cells, Teller
from .pending import Pending, relieve_before


class Hold:
    """Amounts that are held against limits, until one of the ways to end it comes first."""

    __slots__ = ("amounts", "ends_at_s", "number")

    def __init__(self, number: int, amounts: list[tuple[Cell, int]], ends_at_s: float) -> None:
        self.number: Final = number
        self.amounts = amounts
        self.ends_at_s = ends_at_s


class Book:
    """All holds of a gate. With its lock, which is held for microseconds, limits are changed."""

    def __init__(self, timeout_s: float, clock_margin_s: float) -> None:
        self.lock = threading.RLock()  # a signal handler may reserve as well
        self._timeout_s: Final = timeout_s
        self._holds: Final[dict[int, Hold]] = {}
        """Those without an offset, in the order in which they end."""
        self._next: int = 0
        self._pending: Final = Pending(clock_margin_s)

    def __len__(self) -> int:
        return len(self._holds)

    def hold(self, cells: Cells, amounts: Amounts) -> Hold:
        """Hold amounts against limits. To be called with the lock."""
        held = [(cell, amount) for cell in cells if (amount := amounts.of(cell.state.measure))]
        for cell, amount in held:
            cell.hold(amount)
        return self._enter(held)

    def release(self, hold: Hold) -> bool:
        """Let go of what is held; False if it had ended. To be called with the lock."""
        if self._holds.pop(hold.number, None) is None:
            return False
        _relieve(hold.amounts)
        return True

    def wait_for(self, hold: Hold, partition: int, offset: int) -> None:
        """Let a hold end when the event at `offset` of a partition of events is counted.

        By limit: those of organisations are told later. To be called with the lock.
        """
        if self._holds.pop(hold.number, None) is None:
            return
        for cell, amount in hold.amounts:
            if offset < cell.counted_upto(partition):
                cell.hold(-amount)
            else:
                self._pending.add(cell, partition, offset, amount)

    def counted(self, teller: Teller) -> None:
        """Relieve all limits of a partition of what its heartbeat tells was counted.

        To be called with the lock.
        """
        self._pending.counted(teller, time.time_ns() // 1000)

    def told(self, cell: Cell) -> None:
        """Relieve one limit of what its own new state counts. To be called with the lock."""
        for partition in list(cell.pending):
            relieve_before(cell, partition, cell.state.events_position)

    def lost_track(self, partition: int) -> None:
        """Let what waits for offsets of an events topic that is gone end by time.

        To be called with the lock.
        """
        for held in self._pending.lost_track(partition):
            self._enter([held])

    def expire(self) -> int:
        """End what nobody settled in time; return how many that were."""
        if not self._holds:
            return 0
        now_s = time.monotonic()
        ended = 0
        with self.lock:
            while self._holds:
                hold = next(iter(self._holds.values()))
                if hold.ends_at_s > now_s:
                    break
                self.release(hold)
                ended += 1
        return ended

    def after_fork_in_child(self) -> None:
        """Take a lock that no thread of the parent holds."""
        self.lock = threading.RLock()

    def _enter(self, held: list[tuple[Cell, int]]) -> Hold:
        hold = Hold(self._next, held, time.monotonic() + self._timeout_s)
        self._next += 1
        self._holds[hold.number] = hold
        return hold


def _relieve(amounts: Iterable[tuple[Cell, int]]) -> None:
    for cell, amount in amounts:
        cell.hold(-amount)
