"""Reading a log by offsets when Kafka misbehaves; doubles, since no broker does it on demand."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError

from meterstream.sinks import event_ranges, log_reader
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.event_ranges import EventRanges
from meterstream.sinks.log_reader import LogReader, is_passing


class Message:
    """A record, or an error in its place."""

    def __init__(self, offset: int, error: KafkaError | None = None, partition: int = 0) -> None:
        self._offset, self._error, self._partition = offset, error, partition

    def error(self) -> KafkaError | None:
        return self._error

    def offset(self) -> int:
        return self._offset

    def partition(self) -> int:
        return self._partition


class Client:
    """A consumer that delivers what it is given, one list for each call."""

    def __init__(self, batches: Sequence[list[Message]], bounds: tuple[int, int] | None) -> None:
        self.batches = list(batches)
        self.bounds = bounds
        self.assigned: list[Any] = []
        self.sought: list[int] = []
        self.closed = False

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int] | None:
        return self.bounds

    def assign(self, partitions: list[Any]) -> None:
        self.assigned = partitions

    def unassign(self) -> None:
        self.assigned = []

    def incremental_unassign(self, partitions: list[Any]) -> None:
        """Let go of partitions that are done."""

    def seek(self, partition: Any) -> None:
        self.sought.append(partition.offset)

    def consume(self, *_: object, **__: object) -> list[Message]:
        return self.batches.pop(0) if self.batches else []

    def close(self) -> None:
        self.closed = True


Make = Callable[..., Client]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes the next consumer deliver what it says."""

    def make_client(*batches: list[Message], bounds: tuple[int, int] | None = (0, 100)) -> Client:
        client = Client(batches, bounds)
        for module in (log_reader, event_ranges):
            monkeypatch.setattr(module, "Consumer", lambda config: client)
            monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
        return client

    return make_client


def error(code: int, **flags: bool) -> KafkaError:
    """Return an error of librdkafka."""
    return KafkaError(code, "reason", **flags)


def test_what_mends_itself_is_told_from_what_does_not() -> None:
    """Brokers come back; a record that cannot be read does not."""
    assert is_passing(error(KafkaError._ALL_BROKERS_DOWN))
    assert is_passing(error(KafkaError.REQUEST_TIMED_OUT, retriable=True))
    assert not is_passing(error(KafkaError._BAD_MSG))
    assert not is_passing(error(KafkaError._TRANSPORT, fatal=True))


def test_reading_goes_on_after_a_passing_error(make: Make) -> None:
    """A broker that was away in between loses no record."""
    client = make([Message(5)], [Message(0, error(KafkaError._TRANSPORT))], [Message(6)])
    reader = LogReader({})
    assert [message.offset() for message in reader.between("t", 0, 5, 7)] == [5, 6]
    assert client.assigned == []
    reader.close()
    assert client.closed


@pytest.mark.parametrize("code", [KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET])
def test_a_log_may_end_before_the_range_does(make: Make, code: int) -> None:
    """Markers at its end, and retention in this moment, are no records."""
    make([Message(5)], [Message(0, error(code))])
    assert [message.offset() for message in LogReader({}).between("t", 0, 5, 9)] == [5]


def test_offsets_beyond_the_range_are_not_told(make: Make) -> None:
    """Where the range ends in a gap, the record after it is not part of it."""
    make([Message(5), Message(9)])
    assert [message.offset() for message in LogReader({}).between("t", 0, 5, 7)] == [5]


def test_a_range_that_is_gone_is_empty(make: Make) -> None:
    """Nothing is asked of Kafka for it."""
    client = make([Message(5)], bounds=(50, 100))
    assert LogReader({}).at("t", 0, 5) is None
    assert client.batches


def test_a_broken_record_stops_the_reader(make: Make) -> None:
    """The message names topic, partition and offset; a damaged one is told as it is."""
    make([Message(0, error(KafkaError.TOPIC_AUTHORIZATION_FAILED))])
    with pytest.raises(JournalBroken, match="t-0 cannot be read at offset 5"):
        LogReader({}).at("t", 0, 5)
    damaged = Message(5, error(KafkaError._BAD_COMPRESSION))
    make([damaged, Message(6)])
    found: Any = LogReader({}).at("t", 0, 5)
    assert found is damaged
    make([Message(4), damaged, Message(6)])
    assert [one.offset() for one in LogReader({}).between("t", 0, 4, 9)] == [4, 5]
    make([Message(0, error(KafkaError.TOPIC_AUTHORIZATION_FAILED))])
    with pytest.raises(JournalBroken, match="topic t cannot be read"):
        list(EventRanges({"bootstrap.servers": "nowhere:1"}, "t").read({0: (5, 6)}))


def test_events_that_the_client_cannot_read_are_left_out(make: Make) -> None:
    """It gives the same error again, so that the next offset has to be sought."""
    damaged = [Message(0, error(KafkaError._BAD_COMPRESSION)) for _ in range(3)]
    client = make([Message(5), damaged[0]], [damaged[1]], [Message(8)], [damaged[2], damaged[2]])
    found = [
        one.offset() for one in EventRanges({"bootstrap.servers": "x:1"}, "t").read({0: (5, 10)})
    ]
    assert found == [5, 8]
    assert client.sought == [7, 8]


def test_silence_ends_in_a_timeout(make: Make) -> None:
    """Whoever asked may try again."""
    make()
    with pytest.raises(TimeoutError, match="t-0 from offset 5"):
        LogReader({}).at("t", 0, 5)
    with pytest.raises(TimeoutError, match="does not deliver t"):
        list(EventRanges({"bootstrap.servers": "nowhere:1"}, "t").read({0: (5, 6)}))
    make(bounds=None)
    with pytest.raises(TimeoutError, match="bounds of t-0"):
        LogReader({}).bounds("t", 0)


def test_ranges_of_several_partitions_end_each_by_itself(make: Make) -> None:
    """Records after a range's end, and of partitions that are done, are left out."""
    make(
        [Message(5, partition=0), Message(1, partition=1), Message(6, partition=0)],
        [Message(7, partition=0), Message(0, error(KafkaError._TRANSPORT))],
        [Message(9, partition=1), Message(0, error(KafkaError._PARTITION_EOF), partition=1)],
    )
    ranges = EventRanges({"bootstrap.servers": "nowhere:1"}, "t")
    found = [(one.partition(), one.offset()) for one in ranges.read({0: (5, 7), 1: (1, 4)})]
    assert found == [(0, 5), (1, 1), (0, 6)]
    assert list(ranges.read({0: (3, 3)})) == []
