"""What the meter made of entries: read from its journal, from before they were written on."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from meterstream.cli.connection import Connection
from meterstream.cli.topic_reader import BATCH, WAIT_S, TopicReader
from meterstream.schemas.journal import (
    HEADER_KEY,
    Header,
    MalformedRecord,
    Section,
    unpack_sections,
)
from meterstream.schemas.thresholds import Owners
from meterstream.schemas.topics import CATALOG, JOURNAL, ORG_JOURNAL
from meterstream.schemas.verdicts import reason_name

from .write import Written

WAIT_MAX_S: Final = 10.0
"""How long a command waits for the meter."""


@dataclass(slots=True)
class Taken:
    """What became of written entries."""

    refused: dict[Written, str] = field(default_factory=dict)
    """The entries that the meter refused, with its reason."""
    open: list[Written] = field(default_factory=list)
    """The entries that some partition has not taken yet."""


class MeterWatch:
    """Follows a meter's journal, of teams or organisations, from before entries are written.

    The first record whose positions lie behind an entry tells what became of it. Whether that
    record is valid makes no difference: what becomes of an entry follows from the entries before
    it, and every meter decides the same.
    """

    def __init__(
        self,
        connection: Connection,
        partitions: Iterable[int] | None = None,
        owners: Owners = "teams",
    ) -> None:
        self._reader = TopicReader(connection, JOURNAL if owners == "teams" else ORG_JOURNAL)
        try:
            self.partitions = list(
                self._reader.partitions() if partitions is None else sorted(set(partitions))
            )
            ends = {number: self._reader.end(number) for number in self.partitions}
            self._reader.consumer.assign(
                [TopicPartition(self._reader.topic, number, end) for number, end in ends.items()]
            )
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    def wait(self, written: Sequence[Written], timeout_s: float = WAIT_MAX_S) -> Taken:
        """Return what became of entries, as soon as all are decided or the time is up.

        A control entry is decided by its partition, one of the catalog by every partition.
        """
        taken = Taken()
        left: dict[int, list[Written]] = {number: [] for number in self.partitions}
        for one in written:
            for number in self.partitions if one.topic == CATALOG else [one.partition]:
                left[number].append(one)
        deadline = time.monotonic() + timeout_s
        while any(left.values()) and time.monotonic() < deadline:
            for message in self._records():
                self._look(message, left, taken)
        taken.open = list(dict.fromkeys(one for waiting in left.values() for one in waiting))
        return taken

    def _records(self) -> Iterable[Message]:
        try:
            messages = self._reader.consumer.consume(BATCH, WAIT_S)
        except KafkaException as error:
            raise self._reader.unreadable(error.args[0]) from error
        for message in messages:
            found = message.error()
            if found is None:
                yield message
            elif found.code() not in {KafkaError._PARTITION_EOF, KafkaError._TRANSPORT}:
                raise self._reader.unreadable(found)

    @staticmethod
    def _look(message: Message, left: dict[int, list[Written]], taken: Taken) -> None:
        waiting = left[message.partition() or 0]
        header = header_of(message)
        if header is None or not waiting:
            return
        decided = [one for one in waiting if one.offset < _position(header, one.topic)]
        if not decided:
            return
        left[message.partition() or 0] = [
            one for one in waiting if one.offset >= _position(header, one.topic)
        ]
        value = message.value()
        refusals = _refusals(value if isinstance(value, bytes) else b"")
        for one in decided:
            if reason := refusals.get((one.topic, one.offset)):
                taken.refused[one] = reason


def header_of(message: Message) -> Header | None:
    """Return the chain's header of a journal record; None where it has none that can be read."""
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    for name, value in pairs:
        if name == HEADER_KEY and isinstance(value, bytes):
            try:
                return Header.unpack(value)
            except MalformedRecord:
                return None
    return None


def _position(header: Header, topic: str) -> int:
    return header.catalog_to if topic == CATALOG else header.control_to


def _refusals(value: bytes) -> dict[tuple[str, int], str]:
    """Return why the entries were refused that a journal record refuses."""
    try:
        rejects = unpack_sections(value).get(Section.REJECTS)
    except MalformedRecord:
        return {}
    rows = json.loads(bytes(rejects)) if rejects is not None else []
    return {
        (topic, offset): f"{reason_name(verdict)}: {detail}"
        for topic, offset, verdict, detail in rows
    }
