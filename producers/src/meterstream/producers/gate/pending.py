"""What was used and cannot be seen counted yet, held against its limits until it can.

A limit of a team, or of what is within it, is relieved when the team's own partition tells that the
run's event was counted. The use of many teams, whose events lie in many partitions, is held against
a limit of an organisation; its own partition tells up to where each of them is part of it.
"""

import heapq
from typing import Final

from .index import Cell, Teller

PENDING_MAX: Final = 10_000
"""The most single runs of a limit and partition that wait to be counted; more are added up, to the
last one."""
PASSED_S: Final = 10.0
"""So long after the meter of teams has counted an event, by its clock, the meter of organisations
has counted it too, if there was anything to count: idle partitions tell their clock every 5 s."""


class _Waiting:
    """The limits of one partition that wait for events of one partition."""

    __slots__ = ("cells", "mark")

    def __init__(self) -> None:
        self.cells: Final[set[Cell]] = set()
        self.mark: tuple[int, int] | None = None
        """Up to which event the meter of teams had counted, and when that was read."""


class Pending:
    """All that waits. Whoever calls it has the lock of the book."""

    def __init__(self, clock_margin_s: float) -> None:
        self._waiting: Final[dict[Teller, dict[int, _Waiting]]] = {}
        """By who tells what was counted, then by the partition of the events."""
        self._passed_us: Final = int((PASSED_S + clock_margin_s) * 1e6)

    def add(self, cell: Cell, partition: int, offset: int, amount: int) -> None:
        """Let what is held end when the event at `offset` of `partition` is told counted."""
        heap = cell.pending.setdefault(partition, [])
        heapq.heappush(heap, (offset, amount))
        if len(heap) > PENDING_MAX:
            _add_up(heap)
        of_teller = self._waiting.setdefault(cell.teller, {})
        of_teller.setdefault(partition, _Waiting()).cells.add(cell)

    def counted(self, teller: Teller, now_us: int) -> None:
        """Relieve the limits of a partition of what its heartbeat tells was counted.

        An event that told no use of the organisation, since it was refused or counted before, is
        never told counted: it ends once the meter of organisations is so far in time that its use
        would have been.
        """
        of_teller = self._waiting.get(teller, {})
        for partition, waiting in list(of_teller.items()):
            position = teller.counted_upto(partition)
            decided = teller.decided_upto(partition)
            if waiting.mark is None:
                if decided > position:
                    waiting.mark = decided, now_us
            elif (teller.clock_us or 0) >= waiting.mark[1] + self._passed_us:
                position, waiting.mark = max(position, waiting.mark[0]), None
            for cell in list(waiting.cells):
                relieve_before(cell, partition, position)
                if partition not in cell.pending:
                    waiting.cells.discard(cell)
            if not waiting.cells:
                del of_teller[partition]

    def lost_track(self, partition: int) -> list[tuple[Cell, int]]:
        """Forget what waits for offsets of an events topic that is gone; return what is held."""
        held = []
        for of_teller in self._waiting.values():
            waiting = of_teller.pop(partition, None)
            for cell in waiting.cells if waiting is not None else ():
                total = sum(amount for _, amount in cell.pending.pop(partition, ()))
                if total:
                    held.append((cell, total))
        return held


def relieve_before(cell: Cell, partition: int, position: int) -> None:
    """Relieve a limit of what was used by events of `partition` before `position`."""
    heap = cell.pending.get(partition)
    if heap is None:
        return
    while heap and heap[0][0] < position:
        cell.hold(-heapq.heappop(heap)[1])
    if not heap:
        del cell.pending[partition]


def _add_up(heap: list[tuple[int, int]]) -> None:
    """Make one of the older half: it ends when the last of them is counted."""
    heap.sort()
    half = len(heap) // 2
    older = heap[:half]
    heap[:half] = [(older[-1][0], sum(amount for _, amount in older))]
