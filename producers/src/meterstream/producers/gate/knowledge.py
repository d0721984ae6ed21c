"""What the records of `limit-states` say, brought into the index and the book, one by one."""

import time
from functools import lru_cache
from typing import Final

from meterstream.producers.exceptions import UnreadableState
from meterstream.schemas.partitions import partition_of

from .book import Book
from .index import Cell, Index
from .metrics import GateMetrics
from .partition import Partition
from .settings import GateSettings
from .share import Recent
from .states import HEARTBEAT_KEY, TEAM_KEY, State, read_heartbeat, read_state

_TEAMS_REMEMBERED: Final = 65_536
"""Of how many teams the partition is remembered."""

_partition_of: Final = lru_cache(_TEAMS_REMEMBERED)(partition_of)


class Knowledge:
    """Everything a gate knows. One thread brings records in, any number read."""

    def __init__(self, settings: GateSettings, book: Book, metrics: GateMetrics) -> None:
        self.index: Final = Index()
        self.partitions: tuple[Partition, ...] = ()
        self._count = 0
        self._book: Final = book
        self._metrics: Final = metrics
        self._settling_s: Final = settings.gate_settling_s
        self._shared: Final = settings.gate_processes > 1

    def set_partitions(self, count: int) -> None:
        """Note how many partitions there are. Those that were there before stay known."""
        more = (Partition(n, self.index) for n in range(len(self.partitions), count))
        self.partitions = (*self.partitions, *more)
        self._count = count

    def partition_of(self, team: str) -> Partition | None:
        """Return the partition of a team; None before the partitions are known."""
        count = self._count
        return self.partitions[_partition_of(team, count)] if count else None

    def reached_end(self, number: int) -> None:
        """Note that a partition was read to its end."""
        with self._book.lock:
            self.partitions[number].reached_end()

    @property
    def loaded(self) -> bool:
        """Whether all partitions were read to their ends."""
        return self._count > 0 and all(one.loaded for one in self.partitions[: self._count])

    @property
    def clock_us(self) -> int | None:
        """Up to when usage was counted, in the partition that is most behind; None if unknown."""
        clocks = [one.clock_us for one in self.partitions[: self._count] if one.loaded]
        known = [clock_us for clock_us in clocks if clock_us is not None]
        return min(known) if self._count and len(known) == self._count else None

    def take(self, number: int, key: bytes | None, value: bytes | None) -> None:
        """Take one record of a partition; UnreadableState if it breaks the contract."""
        partition = self.partitions[number]
        if key is None:
            raise UnreadableState(
                f"a record in partition {number} of the limit states has no key; it is passed over"
            )
        if key.startswith(HEARTBEAT_KEY):
            self._beat(partition, value)
        elif not key.startswith(TEAM_KEY):
            self._metrics.ignored("other_owner")
        elif value is None:
            with self._book.lock:
                partition.remove(key)
        else:
            self._state(partition, key, read_state(value, number))

    def _state(self, partition: Partition, key: bytes, state: State) -> None:
        if _partition_of(state.team_id, self._count) != partition.number:
            raise UnreadableState(
                f"a state in partition {partition.number} of the limit states is of a team whose"
                " place is another one; it is passed over"
            )
        with self._book.lock:
            before = self.index.cells.get(key)
            known = None if before is None else before.state
            fate = partition.take(key, state)
            if fate == "taken":
                cell = self.index.cells[key]
                self._book.told(cell)
                if self._shared:
                    self._recent(cell, known, state)
        if fate in ("repeated", "old"):
            self._metrics.ignored(fate)

    def _recent(self, cell: Cell, known: State | None, state: State) -> None:
        recent = cell.recent
        if recent is None and known is not None:
            recent = Recent(known, 0.0)  # all that is known of it: it was so until now
        now_s = time.monotonic()
        cell.recent = (
            Recent(state, now_s) if recent is None else recent.then(state, now_s, self._settling_s)
        )

    def _beat(self, partition: Partition, value: bytes | None) -> None:
        if value is None:
            return
        heartbeat = read_heartbeat(value, partition.number)
        with self._book.lock:
            known = partition.topic_id
            news = partition.beat(heartbeat)
            if known is not None and known != partition.topic_id:
                self._book.lost_track(partition.number)
            if news:
                self._book.counted(partition.number, partition.events_position)
        if not news:
            self._metrics.ignored("old")
