"""What is audited: a partition's log as of fixed offsets, and the generations that decided it."""

from dataclasses import dataclass
from uuid import UUID

from meterstream.schemas.journal.header import Header


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets of one partition's log: of the first record still there, and past the last."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One life of a partition: within it rows have one identity, and cells are absolute values."""

    events_topic_id: UUID
    generation: int
    partition: int

    @classmethod
    def of(cls, header: Header, partition: int) -> "Segment":
        """Return the segment that a record belongs to."""
        return cls(header.events_topic_id, header.generation, partition)

    def __str__(self) -> str:
        """Name it for a person."""
        return f"generation {self.generation}"


@dataclass(frozen=True, slots=True)
class ValidRecord:
    """A valid record of the chain, with the partition's clock after it."""

    segment: Segment
    offset: int
    timestamp_us: int
    header: Header
    value: bytes
    clock_us: int
