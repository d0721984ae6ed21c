"""The journal's reader where Kafka says something unusual; doubles, since a broker seldom does."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from tests.support.journal import EVENTS_TOPIC_ID, TODAY_US, Writer, cell

from meterstream.schemas.journal import HEADER_KEY, Link
from meterstream.sinks import journal_reader
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.journal_reader import Committed, JournalReader
from meterstream.sinks.record import JournalRecord
from meterstream.sinks.start import Start


class Message:
    """A journal record as the client delivers it, or an error."""

    def __init__(
        self,
        record: JournalRecord | None = None,
        error: KafkaError | None = None,
        partition: int = 0,
    ) -> None:
        self.record, self._error, self._partition = record, error, partition

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self.record.offset if self.record else 0

    def headers(self) -> list[tuple[str, bytes]]:
        assert self.record is not None
        return [(HEADER_KEY, self.record.header.pack())]

    def timestamp(self) -> tuple[int, int]:
        assert self.record is not None
        return 2, self.record.timestamp_us // 1000

    def leader_epoch(self) -> None:
        return None

    def value(self) -> bytes:
        assert self.record is not None
        return self.record.value


END = Message(error=KafkaError(KafkaError._PARTITION_EOF))


class Client:
    """A consumer that owns partition 0 from its first poll on."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.messages: list[Message] = []
        self.commits: list[list[TopicPartition]] = []
        self.refuse: int | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.assigned: list[TopicPartition] = []
        self.sought: list[TopicPartition] = []
        self.is_assigned = False

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        self.callbacks = callbacks

    def poll(self, timeout_s: float) -> Message | None:
        if not self.is_assigned:
            self.is_assigned = True
            self.callbacks["on_assign"](self, [TopicPartition("journal", 0)])
        return self.messages.pop(0) if self.messages else None

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def seek(self, partition: TopicPartition) -> None:
        self.sought.append(partition)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, -1001) for one in partitions]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.answers.wait(60)
        if self.refuse is not None:
            raise KafkaException(KafkaError(self.refuse))
        self.commits.append(offsets)

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 10

    def close(self) -> None:
        self.callbacks["on_revoke"](self, [TopicPartition("journal", 0)])


class Owner:
    """What is told of partitions that come and go."""

    def __init__(self) -> None:
        self.start = Start(0, None)
        self.failure: Exception | None = None
        self.gone: list[tuple[list[int], bool]] = []

    def assigned(self, partition: int, committed: Committed) -> Start:
        if self.failure is not None:
            raise self.failure
        committed()
        return self.start

    def revoked(self, partitions: list[int], may_commit: bool) -> None:
        self.gone.append((partitions, may_commit))
        if self.failure is not None:
            raise self.failure


Made = tuple[JournalReader, Client, Owner]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Return a reader with its doubles."""
    monkeypatch.setattr(journal_reader, "Consumer", Client)
    owner = Owner()
    reader = JournalReader({}, "journal", "group", owner.assigned, owner.revoked)
    client: Any = reader._consumer
    return reader, client, owner


@pytest.mark.parametrize(
    "code",
    [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION],
)
def test_a_log_that_was_cut_is_looked_at_anew(made: Made, code: int) -> None:
    """The place is found again, as at a start, and pending records are dropped."""
    reader, client, owner = made
    client.messages = [Message(error=KafkaError(code))]
    assert reader.poll(0) is None
    assert owner.gone == [([0], False)]
    assert [(one.partition, one.offset) for one in client.sought] == [(0, 0)]


@pytest.mark.parametrize(
    "code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT]
)
def test_what_may_come_right_is_waited_for(made: Made, code: int) -> None:
    """A topic that is not created yet, brokers that are away."""
    reader, client, _ = made
    client.messages = [Message(error=KafkaError(code))]
    assert reader.poll(0) is None


def test_a_topic_that_cannot_be_read_stops_the_reader(made: Made) -> None:
    """A right that it lacks, say."""
    reader, client, _ = made
    client.messages = [Message(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]
    with pytest.raises(JournalBroken, match="topic journal cannot be read"):
        reader.poll(0)


def test_what_goes_wrong_in_a_callback_is_raised(made: Made) -> None:
    """The client would swallow it."""
    reader, _, owner = made
    owner.failure = JournalBroken("no start")
    with pytest.raises(JournalBroken, match="no start"):
        reader.poll(0)
    with pytest.raises(JournalBroken, match="no start"):
        reader.close()


def test_records_of_a_partition_that_went_are_passed_over(made: Made) -> None:
    """They were fetched before."""
    reader, client, _ = made
    genesis = Writer().genesis(TODAY_US)
    client.messages = [Message(genesis, partition=7), Message(genesis)]
    assert reader.poll(0) is None
    found = reader.poll(0)
    assert found is not None
    assert found.leader_epoch == 0
    assert reader.partitions == [0]
    assert reader.lag(0) == 9


@pytest.mark.parametrize("code", [KafkaError._PARTITION_EOF, KafkaError._BAD_COMPRESSION])
def test_errors_of_a_partition_that_went_are_passed_over(made: Made, code: int) -> None:
    """Its next owner meets them; nothing is sought in a partition that others read."""
    reader, client, _ = made
    client.messages = [Message(error=KafkaError(code), partition=7), Message(Writer().genesis(0))]
    assert reader.poll(0) is None
    assert client.sought == []
    assert reader.poll(0) is not None


def test_a_hole_is_read_again_once(made: Made) -> None:
    """If the record was only missed, reading goes on; if it is gone, the reader stops."""
    reader, client, owner = made
    writer = Writer()
    records = [
        writer.genesis(TODAY_US),
        writer.step([cell(TODAY_US)]),
        writer.step([cell(TODAY_US)]),
    ]
    client.messages = [Message(records[0]), Message(records[2])]
    assert reader.poll(0) is not None
    owner.start = Start(1, records[0].link)
    assert reader.poll(0) is None
    assert [one.offset for one in client.sought] == [1]
    client.messages = [Message(records[1]), Message(records[2])]
    assert [reader.poll(0) is not None for _ in range(2)] == [True, True]
    client.messages = [*[Message(writer.step()) for _ in range(2)][1:] * 2, END]
    assert [reader.poll(0), reader.poll(0)] == [None, None]
    with pytest.raises(JournalBroken, match="cannot be followed"):
        reader.poll(0)


def test_a_commit_that_the_group_refuses_is_no_failure(made: Made) -> None:
    """The partitions are about to go, and ClickHouse knows the place."""
    reader, client, _ = made
    reader.poll(0)
    link = Link(5, 4, 1, 9, TODAY_US)
    reader.commit({0: link, 3: link})
    (offset,) = client.commits[0]
    assert (offset.partition, offset.offset, offset.metadata) == (0, 5, link.to_metadata())
    client.refuse = KafkaError.ILLEGAL_GENERATION
    reader.commit({0: link})
    client.refuse = KafkaError._TRANSPORT
    with pytest.raises(KafkaException):
        reader.commit({0: link})
    reader.commit({3: link})
    assert len(client.commits) == 1


def test_behind_a_break_the_next_generation_is_found(made: Made) -> None:
    """Records between are passed over, and reading goes on at the genesis."""
    reader, client, _ = made
    writer = Writer()
    genesis, broken, after = writer.genesis(TODAY_US), writer.step(), writer.step()
    object.__setattr__(broken, "value", b"other")
    again = writer.new_generation(TODAY_US + 1)
    client.messages = [Message(one) for one in (genesis, broken, after, again, writer.idle(1))]
    found = [reader.poll(0) for _ in range(5)]
    assert [one.offset for one in found if one is not None] == [0, 3, 4]
    client.messages = [END]
    assert reader.poll(0) is None


def test_a_break_at_the_end_stops_the_reader(made: Made) -> None:
    """There is no later generation yet: the message says how to begin one."""
    reader, client, _ = made
    writer = Writer()
    genesis, broken = writer.genesis(TODAY_US), writer.step()
    object.__setattr__(broken, "value", b"other")
    client.messages = [Message(genesis), END, Message(broken), END]
    assert [reader.poll(0) is None for _ in range(3)] == [False, True, True]
    with pytest.raises(JournalBroken, match=r"offset 1 cannot be read: .*--new-generation"):
        reader.poll(0)


def test_what_the_client_cannot_read_is_gone_behind(made: Made) -> None:
    """It gives the same error again and again, so that the next offset has to be sought."""
    reader, client, _ = made
    writer = Writer()
    genesis, _ = writer.genesis(TODAY_US), [writer.step(), writer.step()]
    again = writer.new_generation(TODAY_US + 1)
    damaged = [Message(error=KafkaError(KafkaError._BAD_COMPRESSION)) for _ in range(2)]
    client.messages = [Message(genesis), *damaged, Message(again)]
    found = [reader.poll(0) for _ in range(4)]
    assert [one.offset for one in found if one is not None] == [0, 3]
    assert [one.offset for one in client.sought] == [2, 3]


def test_a_generation_that_would_count_twice_stops_the_reader(made: Made) -> None:
    """Where the journal was made again, it must begin behind the events that are stored."""
    reader, client, owner = made
    place = Link(11, 10, 1, 50, TODAY_US)
    writer = Writer(generation=2, events_position=49)
    genesis = writer.genesis(TODAY_US)
    owner.start = Start(0, place, lost="made again", stored={EVENTS_TOPIC_ID: 50})
    client.messages = [Message(genesis)]
    with pytest.raises(JournalBroken, match="events up to 50 are stored already"):
        reader.poll(0)


def test_a_journal_made_again_is_read_from_its_genesis(made: Made) -> None:
    """Its offsets are lower than those of the place that was kept."""
    reader, client, owner = made
    place = Link(11, 10, 1, 50, TODAY_US)
    writer = Writer(generation=2, events_position=50)
    owner.start = Start(0, place, lost="made again", stored={EVENTS_TOPIC_ID: 50})
    client.messages = [Message(writer.genesis(TODAY_US)), Message(writer.idle(TODAY_US + 1))]
    found = [reader.poll(0) for _ in range(2)]
    assert [one.offset for one in found if one is not None] == [0, 1]


def test_strangers_are_void_and_told_once(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the first one's place; the others are counted."""
    reader, client, _ = made
    writer = Writer()
    genesis = writer.genesis(TODAY_US)
    strangers = [Message(genesis), Message(genesis)]
    for number, stranger in enumerate(strangers):
        stranger.offset = lambda number=number: number + 1  # type: ignore[method-assign,misc]
        stranger.headers = list  # type: ignore[method-assign]
        stranger.value = lambda: b"stranger"  # type: ignore[method-assign]
    client.messages = [Message(genesis), *strangers]
    assert [reader.poll(0) is None for _ in range(3)] == [False, True, True]
    assert reader.void_records(0) == 2
    told = [record.getMessage() for record in caplog.records if "not the meter's" in record.msg]
    assert told == ["journal-0, offset 1 is not the meter's: it is void, and so are others like it"]


def test_a_commit_that_hangs_is_given_up(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed goes on, or ends, without it, and commits again once it has answered."""
    monkeypatch.setattr(journal_reader, "COMMIT_S", 0.01)
    reader, client, owner = made
    reader.poll(0)
    links = [Link(number, number - 1, 1, 9, TODAY_US) for number in (5, 6, 7)]
    client.answers.clear()
    reader.commit({0: links[0]})
    hanging = reader._hanging
    assert hanging is not None
    reader.commit({0: links[1]})
    assert client.commits == []
    reader.close()
    assert owner.gone == [], "leaving the group would hang as well"
    client.answers.set()
    hanging.join(30)
    monkeypatch.setattr(journal_reader, "COMMIT_S", 30.0)
    reader.commit({0: links[2]})
    assert [offset.offset for (offset,) in client.commits] == [5, 7]
    reader.close()
    assert owner.gone == [([0], True)]
