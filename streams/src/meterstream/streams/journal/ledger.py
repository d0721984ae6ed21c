"""What ClickHouse has counted of a partition: asked only where the journal cannot tell."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Counted:
    """The last record of a partition's newest generation that the ledger in ClickHouse holds."""

    generation: int
    journal_offset: int
    events_position: int
    """The next events offset after that record."""


Ledger = Callable[[UUID, int], Counted | None]
"""(events topic id, partition) to what was counted of it, None if nothing was.

Raises LedgerUnavailable where ClickHouse cannot tell."""
