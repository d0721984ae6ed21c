"""What valid records decided and is not published yet: dead letters, thresholds, limit states."""

from dataclasses import replace
from typing import Final

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.streams.journal.reader import JournalRecord

from .crossings import ThresholdRecord, threshold_records
from .letters import Reject, rejects_of
from .states import Place, States

MAX_STATES: Final = 100_000
"""At so many states a partition's transaction waits no longer for more."""


class Pending:
    """What the records of one partition decided since its last transaction."""

    def __init__(self, partition: int, source: str, max_records: int) -> None:
        self._partition = partition
        self._source = source
        self._max_records = max_records
        self._records = 0
        self.refused: list[tuple[JournalRecord, Reject]] = []
        """What goes to the dead letters, with its record, whose value is left out."""
        self.thresholds: list[ThresholdRecord] = []
        self.states = States()

    def take(self, record: JournalRecord, place: Place) -> None:
        """Take what a valid record decided; `place` is up to where was counted with it.

        Raises MalformedRecord or KindUnknown where that cannot be read.
        """
        sections = unpack_sections(record.value)
        told = replace(record, value=b"")
        refused = rejects_of(sections.get(Section.REJECTS), record.offset)
        crossings = sections.get(Section.CROSSINGS, b"[]")
        thresholds = threshold_records(crossings, told, self._partition, self._source)
        # Nothing is taken of a record of which something cannot be read.
        self.states.take(sections, place)
        self.refused += [(told, reject) for reject in refused]
        self.thresholds += thresholds
        self._records += bool(self)

    def __bool__(self) -> bool:
        """Tell whether there is anything to publish."""
        return bool(self.refused or self.thresholds or self.states)

    @property
    def is_urgent(self) -> bool:
        """Whether it is published at once: a crossing never waits, and memory has an end."""
        return bool(
            self.thresholds
            or len(self.states) >= MAX_STATES
            or (self and self._records >= self._max_records)
        )

    def clear(self) -> None:
        """Forget all of it: it is published."""
        self._records = 0
        self.refused.clear()
        self.thresholds.clear()
        self.states.clear()
