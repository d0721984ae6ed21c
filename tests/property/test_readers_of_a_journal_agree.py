"""Sinks, publishers, the audit and the meter hold the same records of a journal for valid."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.journal import TODAY_US, Writer
from tests.unit.cli.audit.readers import MemoryLog

from meterstream.cli.audit.findings import Findings
from meterstream.cli.audit.follow import Follower, Raw
from meterstream.schemas.journal import (
    HEADER_KEY,
    Chain,
    ChainBroken,
    ChainReader,
    Kind,
    Link,
    MalformedRecord,
)
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks import journal_reader
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.journal_reader import Committed, JournalReader
from meterstream.sinks.start import Start
from meterstream.streams.journal.reader import look_ahead, take_next, take_valid


@dataclass(frozen=True)
class Entry:
    """A record as it stands in the log, in the form in which the client delivers it."""

    at: int
    at_us: int
    packed: bytes | None
    content: bytes
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return "journal"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def headers(self) -> list[tuple[str, bytes]]:
        return [] if self.packed is None else [("trace", b"1"), (HEADER_KEY, self.packed)]

    def timestamp(self) -> tuple[int, int]:
        return 2, self.at_us // 1000

    def leader_epoch(self) -> None:
        return None

    def value(self) -> bytes:
        return self.content


KINDS = (
    "step", "step", "step", "idle", "void", "stranger",
    "other value", "other header", "no header", "gone",
    "generation", "generation", "void generation",
)  # fmt: skip
DAMAGE = frozenset({"other value", "other header", "no header", "gone"})


def write(plan: Sequence[str]) -> tuple[list[Entry], list[Entry]]:
    """Return a log as it was written, and as it is after what the plan does to it."""
    writer, used = Writer(), 1
    written, left = [], []
    last = writer.genesis(TODAY_US)
    entry = Entry(0, TODAY_US, last.header.pack(), last.value)
    written.append(entry)
    left.append(entry)
    for what in plan:
        at = writer.next_offset
        if what in ("void", "stranger", "void generation"):
            packed: bytes | None = last.header.pack()
            if what == "stranger":
                packed = None
            elif what == "void generation":
                used += 1
                packed = dataclasses.replace(
                    last.header,
                    kind=Kind.GENESIS,
                    generation=used,
                    prev=last.offset - 1,
                    value_crc32=zlib.crc32(b""),
                ).pack()
            value = b"stranger" if packed is None else b""
            entry = Entry(at, writer.clock_us, packed, value)
            writer.skip_to(at + 1)
            written.append(entry)
            left.append(entry)
            continue
        if what == "generation":
            writer.prev = at - 1
            writer.generation = used
            last = writer.new_generation(writer.clock_us)
            used = writer.generation
        elif what == "idle":
            last = writer.idle(writer.clock_us + 1000)
        else:
            last = writer.step(verdicts=[Verdict.COUNTED] * (at % 3))
        entry = Entry(at, last.timestamp_us, last.header.pack(), last.value)
        written.append(entry)
        if what == "other value":
            entry = dataclasses.replace(entry, content=b"\x01" + last.value)
        elif what == "other header":
            entry = dataclasses.replace(entry, packed=b"x" + last.header.pack()[1:])
        elif what == "no header":
            entry = dataclasses.replace(entry, packed=None)
        if what != "gone":
            left.append(entry)
    return written, left


def by_the_meter(log: Sequence[Any]) -> list[int]:
    """Return what a restore takes, up to where it stops."""
    chain = Chain()
    found: list[int] = []
    with suppress(ChainBroken, MalformedRecord):
        found.extend(e.at for e in log if take_valid(chain, e) is not None)
    return found


def by_the_publisher(log: Sequence[Any]) -> list[int]:
    """Return what a publisher takes, up to the end."""
    reader, found = ChainReader(), []
    for entry in log:
        try:
            record = take_next(reader, entry)
        except (ChainBroken, MalformedRecord) as broken:
            look_ahead(reader, entry, str(broken))
            continue
        if record is not None:
            found.append(record.offset)
    return found


def by_the_audit(log: Sequence[Entry]) -> list[int]:
    """Return what the audit takes, up to the end."""
    raws = [Raw(one.at, one.at_us, one.packed, one.content) for one in log]
    follower = Follower(MemoryLog(*raws), 0, "journal", Findings(), None)
    return [one.offset for one in follower.read(lambda _: False, lambda: False)]


class Client:
    """A consumer of partition 0 that delivers a log from where it is told to, then its end."""

    log: Sequence[Entry] = ()

    def __init__(self, config: dict[str, Any]) -> None:
        self.next: int | None = None

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def poll(self, timeout_s: float) -> Entry | None:
        if self.next is None:
            self.callbacks["on_assign"](self, [TopicPartition("journal", 0)])
        entry = next((one for one in self.log if one.at >= (self.next or 0)), END)
        self.next = entry.at + 1
        return entry

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.next = partitions[0].offset

    def seek(self, partition: TopicPartition) -> None:
        self.next = partition.offset

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, -1001) for one in partitions]

    def close(self) -> None:
        pass


END = Entry(10**6, 0, None, b"", KafkaError(KafkaError._PARTITION_EOF))


def by_the_sink(log: Sequence[Entry]) -> list[int]:
    """Return what a sink takes, up to the end; a sink that goes back does so to its last record."""
    place: list[Link] = []
    found = []

    def assigned(partition: int, committed: Committed) -> Start:
        return Start(place[-1].next_offset, place[-1]) if place else Start(0, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_reader, "Consumer", Client)
        patch.setattr(Client, "log", log)
        reader = JournalReader({}, "journal", "group", assigned, lambda *_: None)
        client: Any = reader._consumer
        with suppress(JournalBroken):
            while client.next is None or client.next <= END.at:
                record = reader.poll(0)
                if record is not None:
                    found.append(record.offset)
                    place.append(record.link)
    return found


@given(st.lists(st.sampled_from(KINDS), max_size=25))
@settings(max_examples=300)
def test_readers_agree(plan: list[str]) -> None:
    """Whatever stands in a journal; and behind what is damaged they take nothing that is void."""
    written, left = write(plan)
    taken = by_the_publisher(left)
    assert by_the_sink(left) == taken
    assert by_the_audit(left) == taken
    before_the_break = by_the_meter(left)
    assert before_the_break == taken[: len(before_the_break)]
    valid, damage = by_the_meter(written), DAMAGE.intersection(plan)
    if not damage:
        assert taken == valid == before_the_break
    if damage <= {"other value", "other header"}:
        # So no event is counted twice. What left no trace shows only by what continues it.
        assert set(taken) <= set(valid)


def test_a_stranger_is_void_for_all() -> None:
    """Each passes over it and goes on with the record behind it."""
    _, left = write(["step", "stranger", "step"])
    for read in (by_the_meter, by_the_publisher, by_the_audit, by_the_sink):
        assert read(left) == [0, 1, 3]


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_a_record_that_is_damaged_is_no_stranger(damage: str) -> None:
    """Nobody goes on behind it, but for a generation that begins there."""
    _, left = write(["step", damage, "step"])
    for read in (by_the_meter, by_the_publisher, by_the_audit, by_the_sink):
        assert read(left) == [0, 1]
    _, left = write(["step", damage, "step", "void generation", "generation", "step"])
    for read in (by_the_publisher, by_the_audit, by_the_sink):
        assert read(left) == [0, 1, 5, 6]


def test_a_header_is_known_without_its_name() -> None:
    """A byte of the name that is flipped makes no stranger of a record."""
    _, left = write(["step", "step"])

    class Renamed(Entry):
        def headers(self) -> list[tuple[str, bytes]]:
            return [(name.upper(), value) for name, value in super().headers()]

    renamed = [Renamed(*dataclasses.astuple(entry)) for entry in left]
    for read in (by_the_meter, by_the_publisher, by_the_sink):
        assert read(renamed) == [0, 1, 2]
