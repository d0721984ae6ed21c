"""Follows a journal partition: which records are valid, and the first that is broken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from meterstream.schemas.journal import ChainBroken, ChainReader, Link, MalformedRecord

from .findings import Finding, Findings
from .scope import Segment, ValidRecord


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as the broker gave it; `header` is None where it carries no chain header."""

    offset: int
    timestamp_us: int
    header: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """A place that no reader gets past, and why."""

    offset: int
    reason: str
    is_first: bool
    """Whether no valid record comes before it: then nobody knows what has been decided there."""


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A place in the log that the client could not read, such as a batch with a wrong CRC."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The log ends before `offset`, for now."""

    offset: int


class RecordLog(Protocol):
    """One journal partition, read in the order of its offsets."""

    def next(self) -> Raw | Corrupt | End:
        """Return what comes next; End as often as it is asked at the end."""
        ...


class Follower:
    """Walks along the chain of one partition.

    After a break it goes on at the next genesis, as sinks and publishers do.
    """

    def __init__(
        self, log: RecordLog, partition: int, topic: str, findings: Findings, link: Link | None
    ) -> None:
        self._log = log
        self._topic = topic
        self._findings = findings
        self._chain = ChainReader(link)
        self._break: Break | None = None
        self.partition = partition
        self.position = 0
        """The next journal offset to look at."""
        self.is_broken = False
        """Whether there was a break that leaves open what was decided."""

    @property
    def link(self) -> Link | None:
        """Where the chain stands; None before its genesis and after a break."""
        return None if self._chain.looks_ahead else self._chain.link

    @property
    def looks_ahead(self) -> bool:
        """Whether it looks for a later generation behind a break."""
        return self._chain.looks_ahead

    @property
    def void_records(self) -> int:
        """How many void records were passed over."""
        return self._chain.void_records

    def read(
        self, done: Callable[["Follower"], bool], wait: Callable[[], bool]
    ) -> Iterator[ValidRecord]:
        """Yield valid records until `done`, or until the log ends and `wait` returns False."""
        while not done(self):
            found = self._log.next()
            if isinstance(found, End):
                self.position = max(self.position, found.offset)
                self._chain.skip_to(found.offset)
                if not done(self) and not wait():
                    return
                continue
            if found.offset < self.position:
                continue
            self.position = found.offset + 1
            valid = self._take(found)
            if valid is not None:
                yield valid

    def reject(self, offset: int, reason: str) -> None:
        """Report that the valid record at `offset` cannot be decoded: every reader stops there."""
        self._look_ahead(offset, reason)
        self._chain.cannot_read(offset)
        self.finish()

    def finish(self) -> None:
        """Report a break behind which no later generation has begun."""
        found, self._break = self._break, None
        if found is not None:
            self.is_broken = True
            at = f"offset {found.offset}"
            self._findings.add(Finding("chain", self._topic, self.partition, at, found.reason))

    def _take(self, found: Raw | Corrupt) -> ValidRecord | None:
        if isinstance(found, Corrupt):
            self._look_ahead(found.offset, f"the record cannot be read: {found.reason}")
            self._chain.cannot_read(found.offset)
            return None
        try:
            header = self._chain.take(found.offset, found.timestamp_us, found.header, found.value)
        except (MalformedRecord, ChainBroken) as error:
            self._look_ahead(found.offset, str(error))
            header = self._chain.take(found.offset, found.timestamp_us, found.header, found.value)
        if header is None:
            return None
        if self._break is not None and self._break.is_first:
            self.finish()
        elif self._break is not None:
            broken, self._break = self._break, None
            self._findings.note(
                f"partition {self.partition}: journal offset {broken.offset} is broken"
                f" ({broken.reason}); generation {header.generation} goes on at offset"
                f" {found.offset} from event {header.events_from}"
            )
        link = self._chain.link
        assert link is not None, "a valid record leaves a link"
        return ValidRecord(
            Segment.of(header, self.partition),
            found.offset,
            found.timestamp_us,
            header,
            found.value,
            link.clock_us,
        )

    def _look_ahead(self, offset: int, reason: str) -> None:
        """Look for a later generation; of several breaks until there the first one counts."""
        if not self._chain.looks_ahead:
            self._break = Break(offset, reason, self._chain.link is None)
            self._chain.look_ahead(offset, reason)
