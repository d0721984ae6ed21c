"""What the cells feed knows of each partition between two flushes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from meterstream.schemas.journal import Kind, Link

from .closing import Closing
from .errors import JournalBroken
from .record import Decoded
from .windows import CLOSED_FOREVER, Closed, closed_at, closed_before


@dataclass(frozen=True, slots=True)
class Lineage:
    """One life of a partition's journal: within it cells are absolute values."""

    events_topic_id: UUID
    generation: int


@dataclass(slots=True)
class Watermark:
    """How far the coarse windows of one lineage are closed, as ClickHouse has it."""

    closed: Closed
    is_new: bool = False
    """ClickHouse has no row of it yet."""
    held: Closed = CLOSED_FOREVER
    """A quarantined minute lets nothing close beyond this."""

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

    def add(self, decoded: Decoded, grace_us: int) -> None:
        """Take a valid record to be stored by the next flush.

        Raises JournalBroken if it changes a minute whose quarter is closed: then the meter waits
        longer for late events than this sink does.
        """
        header = decoded.record.header
        lineage = Lineage(header.events_topic_id, header.generation)
        watermark = self.watermarks.get(lineage)
        if watermark is None:
            # No minute is on time that was over, by more than the grace, before the first record.
            before = None if header.kind is Kind.GENESIS else self.link
            clock_us = header.clock_us if before is None else before.clock_us
            watermark = Watermark(closed_at(clock_us, grace_us), is_new=True)
            self.watermarks[lineage] = watermark
        first_s = decoded.first_on_time_s
        if first_s is not None and first_s < watermark.closed.quarter_s:
            raise JournalBroken(
                f"journal partition {self.partition}, offset {decoded.record.offset}: the meter"
                f" changed the minute {first_s} (seconds since 1970) after this sink had closed its"
                f" quarter with a grace of {grace_us // 1_000_000} s. Set the sink's"
                " METERSTREAM_GRACE_SECONDS to the meter's value and start it again: it closes"
                " those windows anew"
            )
        self.pending.append(decoded)
        self.link = decoded.record.link

    def closings(self, grace_us: int) -> Iterator[Closing]:
        """Yield what the pending records close, for each lineage that they are about."""
        last = self.pending[-1].record
        current = Lineage(last.header.events_topic_id, last.header.generation)
        for lineage, watermark in self.watermarks.items():
            is_over = lineage != current and lineage.generation < current.generation
            if lineage != current and not is_over:
                continue
            # Nothing is ever added to a generation after the next one's genesis.
            reached = CLOSED_FOREVER if is_over else closed_at(last.link.clock_us, grace_us)
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
