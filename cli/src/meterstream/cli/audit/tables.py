"""What an audit reads from ClickHouse."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import polars as pl

from meterstream.schemas.journal import Link

from .scope import Segment

FOREVER_S = 2**32
"""Past the last window that a DateTime holds."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far coarse rows are complete (seconds since 1970), as of which journal position."""

    quarter_s: int = 0
    day_s: int = 0
    journal_position: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Event offsets [start, end), and the event times (microseconds) that they lie between."""

    start: int
    end: int
    first_us: int | None = None
    last_us: int | None = None


class Tables(Protocol):
    """The tables of one database, each with FINAL, as frames in the form of `columns`."""

    def position(self, feed: str, partition: int) -> tuple[int, int] | None:
        """Return generation and next journal offset of a feed, None if it has stored nothing."""
        ...

    def oldest_link(self, partition: int, log_start: int) -> Link | None:
        """Return a link to before the oldest ledger row at or after `log_start`."""
        ...

    def ledger(self, segment: Segment, first: int, last: int) -> pl.DataFrame:
        """Return the ledger rows of the journal offsets from `first` to `last`, both included."""
        ...

    def charges(
        self, table: str, segment: Segment, span: Span, *, outside: bool = False
    ) -> pl.DataFrame:
        """Return rows of `charges`, or of the completed runs in `runs`, by event offset.

        Those between the span's times, or with `outside` all others.
        """
        ...

    def charges_elsewhere(
        self, table: str, segment: Segment, span: Span, journal: tuple[int, int], limit: int
    ) -> pl.DataFrame:
        """Return rows of other event offsets whose version names a journal offset in `journal`.

        Both ends of `journal` are included.
        """
        ...

    def charge_total(self, table: str, segment: Segment, span: Span) -> int:
        """Return how many rows `charges` would return, whatever their event times."""
        ...

    def watermark(self, segment: Segment) -> Watermark:
        """Return how far the coarse rows of a segment are complete."""
        ...

    def cells(self, table: str, segment: Segment, from_s: int, until_s: int) -> pl.DataFrame:
        """Return cells of the windows that start in [from_s, until_s), with late and version."""
        ...

    def quarters_before(self, segment: Segment, journal_offset: int) -> pl.Series:
        """Return the quarters with on-time minutes that were last changed before that record."""
        ...

    def sessions(
        self, partition: int, topic_ids: Collection[UUID], generation: int
    ) -> pl.DataFrame:
        """Return a partition's sessions of these events topics, from a generation on."""
        ...

    def strangers(self, table: str) -> pl.DataFrame:
        """Return the segments that have rows in `table` and none in the ledger, with counts."""
        ...

    def refused_rows(self) -> int:
        """Return how many rows are in quarantine."""
        ...

    def kept_days(self, table: str) -> int | None:
        """Return after how many days by log time rows are removed, None if never."""
        ...

    def now_s(self) -> int:
        """Return the server's time, seconds since 1970."""
        ...
