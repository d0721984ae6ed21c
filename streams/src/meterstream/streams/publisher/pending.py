"""What valid records decided and is not published yet, and what they told of usage of teams."""

from dataclasses import replace
from typing import Final

from meterstream.schemas.journal import Kind, MalformedRecord, Section, unpack_sections
from meterstream.schemas.thresholds import Owners
from meterstream.streams.journal.reader import JournalRecord

from .counted import Counted, counted_of
from .crossings import ThresholdRecord, threshold_records
from .letters import Reject, rejects_of
from .place import Place
from .states import States
from .team_usage import TeamUsage, UsageRecord

MAX_STATES: Final = 100_000
"""At so many states a partition's transaction waits no longer for more."""
MAX_USAGE: Final = 50_000
"""With so many events of `org-usage` it takes no more records: they must fit into its time."""


class Pending:
    """What the records of one partition decided since its last transaction."""

    def __init__(
        self,
        partition: int,
        source: str,
        max_records: int,
        *,
        usage: TeamUsage | None = None,
        counted: Counted | None = None,
    ) -> None:
        """Gather for the stage of teams, or with `counted` for that of organisations.

        `source` is that of thresholds. `usage` makes the events of `org-usage`, `counted` is what
        was told before of the usage that organisations' limits follow from.
        """
        self._partition = partition
        self._source = source
        self._max_records = max_records
        self._usage = usage
        self._has_counted = False
        self._records = 0
        self.owners: Owners = "teams" if counted is None else "organisations"
        self.counted = Counted() if counted is None else counted
        """Not only what is pending: all that is known."""
        self.all_told = False
        """Whether the generation has told all limits: false also until a record says so."""
        self.refused: list[tuple[JournalRecord, Reject]] = []
        """What goes to the dead letters, with its record, whose value is left out."""
        self.thresholds: list[ThresholdRecord] = []
        self.usage: list[UsageRecord] = []
        self.states = States(self.owners)

    def take(self, record: JournalRecord, place: Place) -> None:
        """Take what a valid record decided; `place` is up to where was counted with it.

        Raises MalformedRecord or KindUnknown where that cannot be read.
        """
        sections = unpack_sections(record.value)
        told = replace(record, value=b"")
        refused = rejects_of(sections.get(Section.REJECTS), record.offset)
        crossings = sections.get(Section.CROSSINGS, b"[]")
        thresholds = threshold_records(crossings, told, self._partition, self._source)
        usage = self._usage_of_teams(sections.get(Section.TEAM_USAGE), told, place)
        counted = counted_of(sections.get(Section.COUNTED), record.offset)
        # Nothing is taken of a record of which something cannot be read.
        self.states.take(sections, place)
        self.refused += [(told, reject) for reject in refused]
        self.thresholds += thresholds
        self.usage += usage
        is_genesis = record.header.kind is Kind.GENESIS
        # An idle record comes only where nothing is left to be told.
        self.all_told = not is_genesis and Section.LIMITS_TOLD not in sections
        if counted or is_genesis:
            self.counted.take(counted, anew=is_genesis)
        # The heartbeat that tells it must not be overtaken by the link.
        self._has_counted |= bool(counted)
        self._records += bool(self)

    def _usage_of_teams(
        self, section: memoryview | None, record: JournalRecord, place: Place
    ) -> list[UsageRecord]:
        if section is None:
            return []
        if self._usage is None:
            raise MalformedRecord(
                f"journal offset {record.offset} tells what teams used, which is not passed on here"
            )
        return self._usage.records(section, record, place)

    def __bool__(self) -> bool:
        """Tell whether there is anything to publish."""
        return bool(
            self.refused or self.thresholds or self.usage or self.states or self._has_counted
        )

    @property
    def is_urgent(self) -> bool:
        """Whether it is published at once: a crossing never waits, and memory has an end."""
        return bool(
            self.thresholds
            or len(self.states) >= MAX_STATES
            or self.is_full
            or (self and self._records >= self._max_records)
        )

    @property
    def is_full(self) -> bool:
        """Whether no further record should be taken before it is published."""
        return len(self.usage) >= MAX_USAGE

    def clear(self) -> None:
        """Forget all of it: it is published."""
        self._records = 0
        self.refused.clear()
        self.thresholds.clear()
        self.usage.clear()
        self._has_counted = False
        self.states.clear()
