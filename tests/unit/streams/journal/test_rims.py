"""The journal's readers and writer where Kafka is slow, silent or full."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException
from tests.support.craft import NOW, Partition, run

from meterstream.schemas.journal import Chain, ChainBroken, ChainReader, Link
from meterstream.streams.core import EventBatch
from meterstream.streams.journal import (
    NotJoined,
    OutcomeUnknown,
    RecordTooLarge,
    RecordWriter,
    reader,
    recount,
)
from meterstream.streams.journal import snapshots as stored_snapshots
from meterstream.streams.journal.reader import Interrupted
from meterstream.streams.kafka import BrokerUnavailable
from meterstream.streams.settings import MeterSettings

END = KafkaError._PARTITION_EOF
AWAY = KafkaError._TRANSPORT


class Message:
    """A record, or an error in its place, such as the end of the log."""

    def __init__(self, offset: int, key: bytes | None = None, error: int | None = None) -> None:
        self._offset, self._key, self._error = offset, key, error

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes:
        return b"value"

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW // 1000 + self._offset

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)


class Log:
    """A consumer of a partition with these messages, which end at `end`."""

    def __init__(self, messages: Sequence[Message], end: int) -> None:
        self._messages = list(messages)
        self._end = end
        self.is_assigned = False

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, self._end

    def assign(self, _: object) -> None:
        self.is_assigned = True

    def unassign(self) -> None:
        self.is_assigned = False

    def poll(self, _: float) -> Message | None:
        return self._messages.pop(0) if self._messages else None

    def consume(self, count: int, _: float) -> list[Message]:
        taken, self._messages = self._messages[:count], self._messages[count:]
        return taken


def keys_in(log: Log, unwanted: bool = False) -> list[bytes]:
    """Return the keys that a catalogue of this log names."""
    consumer: Any = log
    found, _ = stored_snapshots.read_catalogue(consumer, "snapshots", 0, lambda: unwanted)
    return sorted(found.keys)


def test_a_catalogue_ends_where_the_log_does() -> None:
    """Compaction may have taken the last records, and records without a key name nothing."""
    log = Log([Message(0, b"segment/a/0"), Message(1), Message(5, error=END)], 5)
    assert keys_in(log) == [b"segment/a/0"]
    assert not log.is_assigned


def test_a_catalogue_is_read_on_after_a_passing_error() -> None:
    """The client finds its broker again by itself, and no record is missed."""
    log = Log([Message(0, b"segment/a/0"), Message(0, error=AWAY), Message(1, b"segment/a/1")], 2)
    assert keys_in(log) == [b"segment/a/0", b"segment/a/1"]


def test_a_catalogue_that_is_no_longer_wanted() -> None:
    """Reading stops as soon as the partition is taken away."""
    log = Log([Message(0, b"segment/a/0")], 1)
    with pytest.raises(Interrupted):
        keys_in(log, unwanted=True)
    assert not log.is_assigned


def test_a_catalogue_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that falls silent is told of, instead of being waited for for ever."""
    monkeypatch.setattr(stored_snapshots, "STALL_SECONDS", -1.0)
    with pytest.raises(BrokerUnavailable, match="snapshots-0 gave no record"):
        keys_in(Log([], 1))


def offsets_in(log: Log, start: int, end: int) -> list[int]:
    """Return the offsets of the records that are read from this log."""
    consumer: Any = log
    return [offset for offset, _ in reader.read_log(consumer, "journal", 0, start, end)]


def test_a_log_is_read_up_to_its_end_and_no_further() -> None:
    """Markers of transactions may be its last, errors pass, and later records do not belong."""
    log = Log([Message(3), Message(0, error=AWAY), Message(4), Message(7, error=END)], 7)
    assert offsets_in(log, 3, 7) == [3, 4]
    assert not log.is_assigned
    assert offsets_in(Log([Message(3), Message(9)], 10), 3, 5) == [3]


def test_of_a_range_that_is_empty_nothing_is_asked() -> None:
    """A state that stands at the journal's end needs no record."""
    log = Log([Message(7)], 8)
    assert offsets_in(log, 7, 7) == []
    assert log.consume(1, 0)


def test_a_log_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says at which offset it stopped, for the records behind it may be missing."""
    monkeypatch.setattr(reader, "STALL_SECONDS", -1.0)
    log = Log([Message(3)], 9)
    with pytest.raises(BrokerUnavailable, match="journal-0 gave no record at offset 4"):
        offsets_in(log, 3, 9)
    assert not log.is_assigned


class Stranger(Message):
    """A record that is not the meter's."""

    def headers(self) -> None:
        return None

    def topic(self) -> str:
        return "journal"

    def partition(self) -> int:
        return 0


def test_a_record_that_is_broken_now_is_still_the_one_it_was() -> None:
    """Whoever stands behind it goes on; behind something that is not the meter's nobody does."""
    link = Link(4, 3, 1, 9, NOW)
    unreadable: Any = Message(3, error=KafkaError._BAD_COMPRESSION)
    assert reader.is_at(unreadable, link)
    stranger: Any = Stranger(3)
    assert not reader.is_at(stranger, link)


def test_strangers_are_void_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the first one's place; a reader that looks ahead tells of them, too."""
    chain, ahead = Chain(Link(3, 2, 1, 9, NOW)), ChainReader(Link(3, 2, 1, 9, NOW))
    ahead.look_ahead(3, "offset 3 is broken")
    unreadable: Any = Message(3, error=KafkaError._BAD_COMPRESSION)
    assert reader.take_next(ahead, unreadable) is None
    for offset in (4, 5):
        stranger: Any = Stranger(offset)
        assert reader.take_valid(chain, stranger) is None
        assert reader.take_next(ahead, stranger) is None
    assert (chain.void_records, ahead.void_records) == (2, 2)
    told = [record.getMessage() for record in caplog.records]
    assert told == 2 * [
        "journal-0, offset 4 is not the meter's: it is void, and so are others like it"
    ]
    with pytest.raises(ChainBroken, match="offset 3 is broken"):
        ahead.at_end()


def test_events_are_decided_again_in_batches_without_a_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches cover all offsets, those that the log lost and those without a record, too."""
    monkeypatch.setattr(recount, "BATCH_EVENTS", 2)

    def read(*_: object) -> Iterator[tuple[int, Message]]:
        yield from ((offset, Message(offset)) for offset in (3, 4, 7, 8, 9))

    monkeypatch.setattr(recount, "read_log", read)
    consumer: Any = None
    batches = list(recount._batches(consumer, "events", 0, 1, 3, 12))
    assert [(b.start, b.end, list(b.offsets), b.log_start) for b in batches] == [
        (1, 5, [3, 4], 3),
        (5, 9, [7, 8], 3),
        (9, 12, [9], 3),
    ]
    assert isinstance(batches[0], EventBatch)
    assert batches[0].log_times_us == [NOW + 3000, NOW + 4000]


def test_batches_that_end_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last full batch ends at the log's end, no empty one follows."""
    monkeypatch.setattr(recount, "BATCH_EVENTS", 1)
    monkeypatch.setattr(recount, "read_log", lambda *_: [(0, Message(0)), (1, Message(1))])
    consumer: Any = None
    batches = recount._batches(consumer, "events", 0, 0, 0, 2)
    assert [(batch.start, batch.end) for batch in batches] == [(0, 1), (1, 2)]


def test_damaged_events_are_not_passed_over_where_identities_count() -> None:
    """A resend of one of them would be counted twice."""
    damaged = Message(5, error=KafkaError._BAD_COMPRESSION)
    consumer: Any = Log([Message(4), damaged], 9)
    with pytest.raises(NotJoined, match="events-0: the events at offset 5 cannot be read again"):
        list(recount._batches(consumer, "events", 0, 4, 4, 9))
    assert not consumer.is_assigned


def test_a_log_is_read_on_behind_what_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each offset of a damaged batch comes once, as the client's error."""
    damaged = Message(4, error=KafkaError._BAD_MSG)
    log = Log([Message(3), damaged, damaged, Message(6)], 7)
    monkeypatch.setattr(log, "consume", lambda *_: [])  # what comes with it is given again
    assert offsets_in(log, 3, 7) == [3, 4, 5, 6]


def test_a_state_without_identities() -> None:
    """What a state would recognise is nothing at first, and then what it counted, sorted."""
    partition = Partition()
    assert len(recount.kept_ids(partition.state)) == 0
    partition.take(run("a"))
    partition.take(run("b"))
    kept = recount.kept_ids(partition.state)
    assert len(kept) == 2
    assert np.all(kept.hi[:-1] <= kept.hi[1:])


class BrokenProducer:
    """A producer that raises, or that takes a record and never reports."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def produce(self, *_: object, **__: object) -> None:
        if self._error is not None:
            raise self._error

    def poll(self, _: float) -> int:
        return 0

    def purge(self, **_: object) -> None:
        pass

    def flush(self, _: float) -> int:
        return 0


async def at_once(awaitable: Any, _: float) -> None:
    """Stand for asyncio.wait_for where the time is over."""
    awaitable.cancel()
    raise TimeoutError


@pytest.mark.parametrize(
    ("broken", "expected", "text"),
    [
        (BrokenProducer(BufferError()), OutcomeUnknown, "queue is full"),
        (
            BrokenProducer(KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))),
            RecordTooLarge,
            "size too large",
        ),
        (BrokenProducer(KafkaException(KafkaError(KafkaError._FATAL))), OutcomeUnknown, "Fatal"),
        (BrokenProducer(), OutcomeUnknown, "journal-0: no acknowledgement in 1 s"),
    ],
)
def test_records_that_are_not_acknowledged(
    broken: BrokenProducer,
    expected: type[Exception],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A writer says whether nothing was written, or that it cannot be told; it never hangs."""
    records = RecordWriter(MeterSettings(journal_timeout_seconds=1))
    monkeypatch.setattr(asyncio, "wait_for", at_once)
    records._producer = broken  # type: ignore[assignment]
    with pytest.raises(expected, match=text):
        asyncio.run(records.send("journal", 0, key=None, value=b"v"))
    records.close()


class LateProducer(BrokenProducer):
    """A producer that reports on a record when nobody waits for it any more."""

    def produce(self, *_: object, **given: Any) -> None:
        self.report = given["on_delivery"]


def test_a_report_that_comes_late_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome was told as unknown, and stays so, whatever it was."""
    records, late = RecordWriter(MeterSettings(journal_timeout_seconds=1)), LateProducer()
    monkeypatch.setattr(asyncio, "wait_for", at_once)
    records._producer = late  # type: ignore[assignment]

    async def send() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, failed: found.append(failed))
        with pytest.raises(OutcomeUnknown):
            await records.send("journal", 0, key=None, value=b"v")
        late.report(KafkaError(KafkaError._MSG_TIMED_OUT), None)
        await asyncio.sleep(0)
        return found

    assert asyncio.run(send()) == []
    records.close()
