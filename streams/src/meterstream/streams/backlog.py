"""What was read of one partition and is not decided yet, bounded by events and by bytes."""

from collections import deque
from typing import Final

from .core import EventBatch
from .transport import Records

FULL_BATCHES: Final = 2
"""A partition that holds this many full batches takes no more for now."""


class NotConsecutive(Exception):
    """Records do not follow what was read before them: something was lost on the way."""


class EventsDamaged(Exception):
    """The next event cannot be read, and to pass it over is not for the meter to decide."""


class Backlog:
    """Records in the order of their offsets, without a hole between them."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: deque[Records] = deque()
        self._events = 0
        self._bytes = 0
        self._end = 0

    def begin(self, position: int) -> None:
        """Forget everything; what comes next starts at `position`."""
        self._queue.clear()
        self._events = self._bytes = 0
        self._end = position

    def add(self, records: Records) -> None:
        """Take in what was read next; NotConsecutive if it does not follow."""
        if records.start != self._end:
            raise NotConsecutive(
                f"a batch starts at {records.start}, but offsets up to {self._end} were delivered"
            )
        self._queue.append(records)
        self._events += len(records)
        self._bytes += records.value_bytes
        self._end = records.end

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def batches(self) -> float:
        """How many full batches wait, by events or by bytes, whichever is more."""
        return max(self._events / self._max_events, self._bytes / self._max_bytes)

    @property
    def is_full(self) -> bool:
        """Whether reading should pause."""
        return self.batches >= FULL_BATCHES

    @property
    def has_room(self) -> bool:
        """Whether reading should go on."""
        return self.batches <= FULL_BATCHES / 2

    @property
    def is_out_of_range(self) -> bool:
        """Whether the log does not have the next offset."""
        return bool(self._queue) and self._queue[0].out_of_range

    def take(self) -> EventBatch | None:
        """Take the next records, joined up to the size of a batch; None if none wait.

        EventsDamaged if the next one cannot be read.
        """
        if not self._queue:
            return None
        first = self._queue[0]
        if first.damage:
            raise EventsDamaged(
                f"the events from offset {first.start} on cannot be read: {first.damage}. None is"
                " passed over; docs/operations.md tells what to do (A batch of events is damaged)"
            )
        parts = [self._queue.popleft()]
        events, size = len(first), first.value_bytes
        while (
            self._queue
            and not self._queue[0].out_of_range
            and not self._queue[0].damage
            and events + len(self._queue[0]) <= self._max_events
            and size + self._queue[0].value_bytes <= self._max_bytes
        ):
            events += len(self._queue[0])
            size += self._queue[0].value_bytes
            parts.append(self._queue.popleft())
        self._events -= events
        self._bytes -= size
        last = parts[-1]
        if first is last:
            return EventBatch(
                first.start, first.end, first.offsets, first.log_times_us, first.values
            )
        return EventBatch(
            first.start,
            last.end,
            [offset for part in parts for offset in part.offsets],
            [at_us for part in parts for at_us in part.log_times_us],
            [value for part in parts for value in part.values],
        )

    def put_back(self, rest: EventBatch) -> None:
        """Put back what did not fit; it is the next to be taken."""
        size = sum(len(value) for value in rest.values if value is not None)
        self._queue.appendleft(
            Records(rest.start, rest.end, rest.offsets, rest.log_times_us, rest.values, size)
        )
        self._events += len(rest.offsets)
        self._bytes += size
