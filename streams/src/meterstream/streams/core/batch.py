"""What the runtime hands to the core: records of the events, catalog and control topics."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Consecutive offsets of one events partition, from `start` up to but without `end`.

    `offsets` ascend; an offset between `start` and `end` that is not among them holds no record:
    it is a gap, or unread where it lies below `log_start`.
    """

    start: int
    end: int
    offsets: Sequence[int]
    log_times_us: Sequence[int]
    values: Sequence[bytes | None]
    log_start: int = 0
    leader_epoch: int = -1

    def __post_init__(self) -> None:
        """Refuse a batch whose parts contradict each other."""
        if not len(self.offsets) == len(self.log_times_us) == len(self.values):
            raise ValueError("offsets, log times and values differ in number")
        if self.end < self.start:
            raise ValueError(f"the batch ends at offset {self.end}, before {self.start}")
        if self.offsets and not self.start <= self.offsets[0] <= self.offsets[-1] < self.end:
            raise ValueError(
                f"offsets {self.offsets[0]}..{self.offsets[-1]} lie outside"
                f" [{self.start}, {self.end})"
            )

    def part(self, first: int, last: int) -> "EventBatch":
        """Return the records at positions `first` up to `last`, with the gaps before them.

        The gaps after the last record go to the part that holds it.
        """
        total = len(self.offsets)
        start = self.start if first == 0 else self.offsets[first - 1] + 1
        end = self.end if last >= total else self.offsets[last - 1] + 1
        return EventBatch(
            start,
            end,
            self.offsets[first:last],
            self.log_times_us[first:last],
            self.values[first:last],
            self.log_start,
            self.leader_epoch,
        )

    def halves(self) -> "tuple[EventBatch, EventBatch]":
        """Return the batch in two parts; it must hold two records or more."""
        if len(self.offsets) < 2:
            raise ValueError("a batch of fewer than two records cannot be halved")
        middle = len(self.offsets) // 2
        return self.part(0, middle), self.part(middle, len(self.offsets))


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the catalog or control topic."""

    offset: int
    log_time_us: int
    key: bytes | None
    value: bytes | None
