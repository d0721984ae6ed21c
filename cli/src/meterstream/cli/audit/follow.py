"""Follows a journal partition: which records are valid, and the first that is broken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from meterstream.schemas.journal import Chain, ChainBroken, Header, Kind, Link, MalformedRecord

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
    """Walks along the chain of one partition. After a break it goes on at the next genesis."""

    def __init__(
        self, log: RecordLog, partition: int, topic: str, findings: Findings, link: Link | None
    ) -> None:
        self._log = log
        self._topic = topic
        self._findings = findings
        self._chain = Chain(link)
        self._broken = False
        self._last_generation = 0
        self.partition = partition
        self.position = 0
        """The next journal offset to look at."""
        self.void_records = 0
        self.breaks = 0

    @property
    def link(self) -> Link | None:
        """Where the chain stands; None before its genesis and after a break."""
        return self._chain.link

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
        self._break(offset, reason)

    def _take(self, found: Raw | Corrupt) -> ValidRecord | None:
        if isinstance(found, Corrupt):
            self._break(found.offset, f"the record cannot be read: {found.reason}")
            return None
        try:
            if found.header is None:
                raise MalformedRecord("it has no chain header: not the meter's record")
            header = Header.unpack(found.header)
            if self._broken and not self._is_new_beginning(header):
                return None
            if not self._chain.take(found.offset, found.timestamp_us, header):
                self.void_records += 1
                return None
            header.check_value(found.value)
        except (MalformedRecord, ChainBroken) as error:
            self._break(found.offset, str(error))
            return None
        self._broken = False
        self._last_generation = header.generation
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

    def _is_new_beginning(self, header: Header) -> bool:
        return header.kind is Kind.GENESIS and header.generation > self._last_generation

    def _break(self, offset: int, reason: str) -> None:
        """Report the first broken record; those that continue it follow from it."""
        if not self._broken:
            self._findings.add(
                Finding("chain", self._topic, self.partition, f"offset {offset}", reason)
            )
            self.breaks += 1
        self._broken = True
        self._chain = Chain()
