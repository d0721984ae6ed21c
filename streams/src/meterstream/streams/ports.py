"""What a partition's worker is given: its source, its journal, and what restores its state."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .core import PartitionState, Policy, Step
from .entries import EntryReader
from .journal import JournalWriter
from .journal.restore import Restored
from .metrics import MeterMetrics
from .settings import MeterSettings


class Source(Protocol):
    """Where a partition's batches come from."""

    async def release(self, partition: int, offset: int) -> int | None:
        """Deliver batches from `offset` on; return the seek's number, None if it is not ours."""

    def hold(self, partition: int) -> None:
        """Deliver nothing more."""

    def full(self, partition: int) -> None:
        """Deliver nothing more for now."""

    def drained(self, partition: int) -> None:
        """Deliver again."""

    def stable_end(self, partition: int) -> tuple[int, float] | None:
        """Return the last stable offset and the age of that knowledge in seconds."""

    def done(self, partition: int, position: int) -> None:
        """Note that the journal holds everything below `position`."""


@dataclass(frozen=True, slots=True)
class Restorer:
    """What brings a state back or begins one; all of it blocks and runs in a thread."""

    restore: Callable[[int, PartitionState | None, Callable[[], bool]], Restored]
    first_generation: Callable[[int], Step]
    event_bounds: Callable[[int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of all partitions use."""

    settings: MeterSettings
    policy: Policy
    source: Source
    entries: EntryReader
    writer: JournalWriter
    restorer: Restorer
    metrics: MeterMetrics
