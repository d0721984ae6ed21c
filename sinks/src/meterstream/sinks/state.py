"""What the cells feed knows of each partition between two flushes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from meterstream.schemas.journal import Kind, Link

from .closing import Closing
from .errors import JournalBroken
from .record import Decoded
from .windows import CLOSED_FOREVER, SECOND_US, Closed, closed_at, closed_before


@dataclass(frozen=True, slots=True)
class Lineage:
    """One life of a partition's journal: within it cells are absolute values."""

    events_topic_id: UUID
    generation: int


@dataclass(slots=True)
class Watermark:
    """How far the coarse windows of one lineage are closed."""

    closed: Closed
    """By the rows in ClickHouse."""
    is_new: bool = False
    """ClickHouse has no row of it yet."""
    held: Closed = CLOSED_FOREVER
    """A quarantined minute lets nothing close beyond this."""
    reached: Closed = field(init=False, compare=False)
    """What the records so far have closed, the pending ones too."""

    def __post_init__(self) -> None:
        self.reached = self.closed

    def hold(self, window_start_s: int) -> None:
        """Let no window close that holds the minute at `window_start_s`: it is not stored."""
        self.held = self.held.limited_to(closed_before(window_start_s))


@dataclass(slots=True)
class PartitionState:
    """One journal partition: its lineages that are not closed for ever, and what is to be stored.

    `link` is where the chain stands after the last pending record.
    """

    partition: int
    link: Link | None = None
    watermarks: dict[Lineage, Watermark] = field(default_factory=dict)
    pending: list[Decoded] = field(default_factory=list)

    def add(self, decoded: Decoded) -> None:
        """Take a valid record to be stored by the next flush.

        Raises JournalBroken if it changes a minute whose quarter the records before it closed.
        """
        header = decoded.record.header
        grace_us = header.grace_seconds * SECOND_US
        first_s = decoded.first_on_time_s
        lineage = Lineage(header.events_topic_id, header.generation)
        watermark = self.watermarks.get(lineage)
        if watermark is None:
            # No minute is on time that was over, by more than the grace, before the first record.
            before = None if header.kind is Kind.GENESIS else self.link
            clock_us = header.clock_us if before is None else before.clock_us
            closed = closed_at(clock_us, grace_us)
            if first_s is not None:  # records before it may have had a longer grace
                closed = closed.limited_to(closed_before(first_s))
            watermark = Watermark(closed, is_new=True)
            self.watermarks[lineage] = watermark
        if first_s is not None and first_s < watermark.reached.quarter_s:
            raise JournalBroken(
                f"journal partition {self.partition}, offset {decoded.record.offset} changes the"
                f" minute {first_s} (seconds since 1970), whose quarter the records before it have"
                " closed. Its coarse rows are final, so the feed stops here. Keep the journal and"
                " report it"
            )
        after = closed_at(decoded.record.link.clock_us, grace_us)
        watermark.reached = watermark.reached.extended_to(after)
        self.pending.append(decoded)
        self.link = decoded.record.link

    def closings(self) -> Iterator[Closing]:
        """Yield what the pending records close, for each lineage that they are about."""
        last = self.pending[-1].record
        current = Lineage(last.header.events_topic_id, last.header.generation)
        for lineage, watermark in self.watermarks.items():
            is_over = lineage != current and lineage.generation < current.generation
            if lineage != current and not is_over:
                continue
            # Nothing is ever added to a generation after the next one's genesis.
            reached = CLOSED_FOREVER if is_over else watermark.reached
            yield Closing(
                lineage.events_topic_id,
                lineage.generation,
                self.partition,
                watermark.closed,
                reached.limited_to(watermark.held),
                last.link.clock_us,
                last.offset + 1,
                last.version,
            )

    def stored(self, closings: Iterable[Closing]) -> None:
        """Note that the pending records and `closings` are in ClickHouse."""
        for closing in closings:
            lineage = Lineage(closing.events_topic_id, closing.generation)
            if closing.now == CLOSED_FOREVER:
                del self.watermarks[lineage]
            else:
                self.watermarks[lineage].closed = closing.now
                self.watermarks[lineage].is_new = False
        self.pending.clear()
