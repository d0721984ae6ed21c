"""What the transport hands to the agent: one message for all records of a partition's fetch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Batching:
    """How records are put together. Sizes in bytes, times in milliseconds."""

    max_events: int = 20_000
    max_bytes: int = 16 * 1024 * 1024
    fetch_min_bytes: int = 256 * 1024
    fetch_wait_ms: int = 100
    """How long the broker waits for `fetch_min_bytes` when there is less: small batches, soon."""


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive offsets of one partition, as columns.

    It speaks of each offset from `start` up to `end`: those missing in `offsets` hold no record
    that a reader of committed data sees. `start` is where the reader stood before the fetch, so
    it is exact even if the log begins with a gap.
    """

    start: int
    end: int
    offsets: Sequence[int]
    log_times_us: Sequence[int]
    values: Sequence[bytes | None]
    value_bytes: int
    out_of_range: bool = False
    """The log has no offset `start`: retention passed it, or the log was cut or made again."""
    damage: str = ""
    """Why the record at `start` cannot be read, where the log's bytes are not as they were written:
    nothing behind it is read before somebody has acted."""

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RecordBatch:
    """Takes the place of an aiokafka ConsumerRecord; its value is itself.

    Faust knows a message by one offset: here the last one that the batch speaks of.
    """

    topic: str
    partition: int
    records: Records
    seek: int
    """The seek of this partition after which it was read; batches of earlier ones are stale."""
    headers: tuple[Any, ...] = ()
    key: None = None
    checksum: None = None
    timestamp: int = 0
    timestamp_type: int = 1
    serialized_key_size: int = 0
    serialized_value_size: int = field(default=0)

    @property
    def offset(self) -> int:
        """The last offset it speaks of."""
        return self.records.end - 1

    @property
    def value(self) -> "RecordBatch":
        """Itself, so that the agent's stream yields batches."""
        return self
