"""The journal on a real broker: writing, snapshots, restoring, new generations, and refusing to."""

import asyncio
import dataclasses
import uuid
import zlib

import msgspec
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from tests.support.metered import POLICY, MeteredPartition, same
from tests.support.publishing import absent_broker
from tests.support.services import create_topics
from tests.support.waiting import eventually

from meterstream.schemas.journal import HEADER_KEY
from meterstream.streams.core import (
    EventBatch,
    compute_step,
    idle_step,
)
from meterstream.streams.journal import (
    JournalMisset,
    JournalWriter,
    NotJoined,
    OutcomeUnknown,
    RecordTooLarge,
    RecordWriter,
)
from meterstream.streams.journal.reader import Interrupted, read_log
from meterstream.streams.journal.restore import check_journal, restore
from meterstream.streams.journal.snapshots import (
    delete_old,
    read_catalogue,
    read_complete,
)
from meterstream.streams.kafka import Broker, TopicMissing, TopicsMisset, read_at
from meterstream.streams.meter import look_up_topics
from meterstream.streams.settings import MeterSettings

# --- writing ---


def test_a_topic_without_log_append_time(kafka: str, prefix: str) -> None:
    """A journal whose records carry the producer's time is refused."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(prefix + "journal", 1, 1)])[prefix + "journal"].result(30)
    records = RecordWriter(MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix))
    with pytest.raises(JournalMisset, match="LogAppendTime"):
        asyncio.run(JournalWriter(records, prefix + "journal").append(0, b"h", b"v"))
    records.close()


def test_a_record_that_is_too_large(partition: MeteredPartition) -> None:
    """A record beyond the topic's limit is refused by name, and the next one is written."""
    limit = partition.settings.journal_max_bytes
    with pytest.raises(RecordTooLarge, match=r"max\.message\.bytes"):
        asyncio.run(partition.writer.append(0, b"h", b"v" * (limit + 200_000)))
    partition.count(1)
    assert same(partition.state_again(), partition.state)


def test_no_broker() -> None:
    """Without a broker the outcome of a record is unknown, in bounded time, each time."""

    async def twice(records: RecordWriter) -> None:
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await JournalWriter(records, "journal").append(0, b"h", b"v")

    with absent_broker() as address:
        records = RecordWriter(MeterSettings(kafka_bootstrap=address, journal_timeout_seconds=1))
        asyncio.run(twice(records))
        records.close()


# --- snapshots ---


def test_snapshots_share_what_did_not_change(partition: MeteredPartition) -> None:
    """A second snapshot of the same state stores nothing anew but its index and manifest."""
    first = partition.snapshot()
    partition.take(idle_step(partition.state, partition.state.clock_us))
    assert 0 < partition.snapshot() < first
    assert same(partition.state_again(), partition.state)


def test_snapshots_of_meters_with_other_message_sizes(partition: MeteredPartition) -> None:
    """A meter that divides segments otherwise shares none of their parts, and both can be read."""
    partition.count(50)
    partition.snapshot()
    assert partition.snapshot(part_bytes=700) > 0
    assert same(partition.state_again(), partition.state)


def test_only_the_newest_snapshots_are_kept(partition: MeteredPartition) -> None:
    """Old snapshots go with the segments that only they name; the others stay whole."""
    for _ in range(4):
        partition.count(1)
        partition.snapshot()
    offset = partition.state.link.prev
    asyncio.run(delete_old(partition.records, partition.topics.snapshots, 0, partition.catalogue))
    consumer = partition.broker.consumer()
    catalogue, offsets = read_catalogue(consumer, partition.topics.snapshots, 0)
    assert sorted(catalogue.indexes) == [offset - 1, offset]
    assert catalogue == partition.catalogue
    kept = list(read_complete(consumer, partition.topics.snapshots, 0, catalogue, offsets))
    assert [snapshot.journal_offset for snapshot in kept] == [offset, offset - 1]
    named = {key for index in catalogue.indexes.values() for key in index.blob_keys()}
    assert catalogue.keys == named | {index.key() for index in catalogue.indexes.values()}
    consumer.close()


@pytest.mark.parametrize(
    "damage", ["missing", "changed", "cut", "unknown layout", "unknown inside"]
)
def test_a_damaged_snapshot_is_passed_over(partition: MeteredPartition, damage: str) -> None:
    """A snapshot that is not whole is passed over for the one before it."""
    partition.snapshot()
    partition.count(5)
    partition.snapshot()
    newest = partition.catalogue.indexes[partition.state.link.prev]
    older = partition.catalogue.indexes[partition.state.link.prev - 1]
    own = sorted(newest.blob_keys() - older.blob_keys())
    key, value = own[0], {"missing": None, "changed": b"\x00" * 2_000, "cut": b""}.get(damage)
    if damage == "unknown layout":
        key, value = newest.key(), b'{"layout": 99}'
    if damage == "unknown inside":
        # Whole by its checksum, but nothing that the core can read.
        value = b"{}".ljust(newest.manifest.size)
        whole = {"crc32": zlib.crc32(value), "part_bytes": newest.manifest.size}
        blob = msgspec.structs.replace(newest.manifest, **whole)
        key = blob.part_keys()[0]
        index = msgspec.json.encode(msgspec.structs.replace(newest, manifest=blob))
        partition.producer.produce(partition.topics.snapshots, index, key=newest.key(), partition=0)
    partition.producer.produce(partition.topics.snapshots, value, key=key, partition=0)
    assert partition.producer.flush(30) == 0
    restored = partition.restored()
    assert restored.state is not None
    assert same(restored.state, partition.state)
    assert restored.records == 1


# --- restoring ---


def test_nothing_was_ever_written(kafka: str, prefix: str) -> None:
    """An empty journal restores to nothing, and the first generation may begin."""
    create_topics(kafka, prefix, 1)
    settings = MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
    broker = Broker(settings)
    topics, _ = look_up_topics(broker, settings)
    restored = restore(broker, topics, POLICY, 0)
    assert (restored.state, restored.next_offset) == (None, 0)


def test_the_journal_alone(partition: MeteredPartition) -> None:
    """The chain from its genesis gives the state back."""
    restored = partition.restored()
    assert restored.state is not None
    assert same(restored.state, partition.state)
    assert (restored.records, restored.next_offset) == (4, 4)


def test_void_records_are_passed_over(partition: MeteredPartition) -> None:
    """A record that another writer decided before changes nothing, and the next offset is known."""
    batch = partition.send(5)
    late = compute_step(partition.state, batch, now_us=batch.log_times_us[-1])
    partition.take(late)
    partition.append(late)
    restored = partition.restored()
    assert restored.state is not None
    assert same(restored.state, partition.state)
    assert (restored.void_records, restored.next_offset) == (1, 6)
    again = restore(partition.broker, partition.topics, POLICY, 0, restored.state)
    assert (again.records, again.next_offset) == (0, 6)


def test_a_parked_state_takes_what_came_since(partition: MeteredPartition) -> None:
    """A state that was kept goes on with the records that others wrote meanwhile."""
    parked = partition.state_again()
    partition.count(7)
    restored = restore(partition.broker, partition.topics, POLICY, 0, parked)
    assert restored.state is not None
    assert same(restored.state, partition.state)
    assert restored.records == 1


def test_it_can_be_interrupted(partition: MeteredPartition) -> None:
    """Restoring ends soon once it is no longer wanted."""
    with pytest.raises(Interrupted):
        restore(partition.broker, partition.topics, POLICY, 0, None, lambda: True)
    consumer = partition.broker.consumer()
    with pytest.raises(Interrupted):
        list(read_log(consumer, partition.topics.journal, 0, 0, 4, lambda: True))
    consumer.close()


def test_topics_that_were_made_again(partition: MeteredPartition) -> None:
    """A journal or events topic with another id is not joined."""
    partition.snapshot()
    topics = partition.topics
    for others in (
        dataclasses.replace(topics, journal_id=uuid.uuid4()),
        dataclasses.replace(topics, events_id=uuid.uuid4()),
    ):
        with pytest.raises(NotJoined, match=r"was made again.*--new-generation"):
            partition.restored(others)


def test_a_journal_that_lost_records(partition: MeteredPartition) -> None:
    """Records missing between snapshot and journal, or a lost genesis, stop the restore."""
    partition.forget("journal", 2)
    with pytest.raises(NotJoined, match="beginning is gone"):
        partition.restored()
    partition.snapshot()
    partition.count(1)
    partition.count(1)
    partition.forget("journal", 5)
    with pytest.raises(NotJoined, match="records in between are lost"):
        partition.restored()
    partition.forget("journal", 6)
    partition.producer.produce(partition.topics.snapshots, None, key=b"manifest/3", partition=0)
    assert partition.producer.flush(30) == 0
    with pytest.raises(NotJoined, match="no snapshot is left"):
        partition.restored()


def test_a_journal_that_was_rewritten(partition: MeteredPartition) -> None:
    """Another record at the place of the snapshot's last one is noticed."""
    state = partition.state
    state.link = dataclasses.replace(state.link, prev=2)
    partition.snapshot()
    with pytest.raises(NotJoined, match="was rewritten"):
        partition.restored()


def test_a_last_record_that_retention_took(partition: MeteredPartition) -> None:
    """A snapshot after everything that the journal has lost joins it."""
    partition.snapshot()
    partition.forget("journal", 4)
    assert same(partition.state_again(), partition.state)


def test_what_stands_in_the_place_of_the_last_record(partition: MeteredPartition) -> None:
    """Another record than the snapshot's, a broken one or none is told apart, with what to do."""
    link = partition.state.link
    broken: dict[str, str | bytes | None] = {HEADER_KEY: b"broken"}
    partition.producer.produce(partition.topics.journal, b"x", partition=0)
    partition.producer.produce(partition.topics.journal, b"x", partition=0, headers=broken)
    assert partition.producer.flush(30) == 0
    partition.forget("journal", 4)  # after its bounds were asked for
    consumer = partition.broker.consumer()
    for offset, reason in (
        (3, "has no record at offset 3"),
        (4, "the record at offset 4 is not the meter's"),
        (5, "a header has 132 bytes, not 6"),
    ):
        partition.state.link = dataclasses.replace(link, prev=offset, next_offset=offset + 1)
        with pytest.raises(NotJoined, match=f"{reason}.*--new-generation"):
            check_journal(consumer, partition.topics, partition.state, 0, 6)
    consumer.close()


def test_a_record_that_is_none(partition: MeteredPartition) -> None:
    """Something else in the journal, or a valid record with another value, stops the restore."""
    step = idle_step(partition.state, partition.state.clock_us)
    headers = [(HEADER_KEY, step.header.pack())]
    partition.producer.produce(
        partition.topics.journal,
        b"damaged",
        partition=0,
        headers=headers,  # type: ignore[arg-type]
    )
    assert partition.producer.flush(30) == 0
    with pytest.raises(NotJoined, match="CRC-32"):
        partition.restored()
    partition.forget("journal", 0)
    partition.producer.produce(partition.topics.journal, b"x", partition=0)
    assert partition.producer.flush(30) == 0
    with pytest.raises(NotJoined, match=r"CRC-32|no meterstream-chain header"):
        partition.restored()


def test_events_that_were_rewritten(partition: MeteredPartition) -> None:
    """An events log that was cut, or holds another event at the last offset, is not joined."""
    last = partition.state.last_event
    for changed in (
        dataclasses.replace(last, hash=last.hash ^ 1),
        dataclasses.replace(last, time_us=last.time_us + 1000),
    ):
        partition.state.last_event = changed
        step = idle_step(partition.state, partition.state.clock_us)
        partition.take(step)
        with pytest.raises(NotJoined, match="was rewritten"):
            partition.restored()
    partition.state.last_event = last
    start = partition.state.events_position
    beyond = EventBatch(start, start + 5, (), (), ())
    partition.take(compute_step(partition.state, beyond, now_us=partition.state.clock_us))
    with pytest.raises(NotJoined, match="the log was cut"):
        partition.restored()


def test_a_last_event_that_retention_took(partition: MeteredPartition) -> None:
    """A last event that retention removed is nothing to worry about."""
    partition.forget("events", 30)
    assert same(partition.state_again(), partition.state)


def test_reading_at_an_offset(partition: MeteredPartition) -> None:
    """One record is read by its offset; where the log has none, that is said."""
    consumer = partition.broker.consumer()
    found = read_at(consumer, partition.topics.events, 0, 3)
    assert found is not None
    assert found.offset() == 3
    assert read_at(consumer, partition.topics.events, 0, 30) is None
    assert read_at(consumer, partition.topics.events, 0, 99) is None
    consumer.close()


def test_topics_that_do_not_fit(kafka: str, prefix: str) -> None:
    """Missing topics are named all at once, and so are those with other numbers of partitions."""
    settings = MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
    admin = AdminClient({"bootstrap.servers": kafka})
    with pytest.raises(TopicMissing, match=r"events.*control.*catalog.*journal.*snapshots"):
        look_up_topics(Broker(settings), settings)
    new = [
        NewTopic(prefix + name, partitions, 1)
        for name, partitions in (
            ("events", 2),
            ("control", 2),
            ("catalog", 1),
            ("journal", 1),
            ("snapshots", 3),
        )
    ]
    for created in admin.create_topics(new).values():
        created.result(30)
    broker = Broker(settings)

    def known() -> bool:
        try:
            return broker.partitions(prefix + "snapshots") == 3
        except TopicMissing:
            return False

    eventually(known, 30, "the last topic is known")
    with pytest.raises(TopicsMisset, match=r"journal has 1 partitions.*snapshots has 3"):
        look_up_topics(broker, settings)


@pytest.mark.parametrize("name", ["events", "journal"])
def test_topics_that_their_producers_stamp(name: str, kafka: str, prefix: str) -> None:
    """A meter does not begin where producers' clocks would close windows, and says what mends it.

    Once the topic is as it must be, it begins.
    """
    create_topics(kafka, prefix, 1)
    settings = MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
    broker = Broker(settings)
    _stamp(broker, prefix + name, "CreateTime")
    with pytest.raises(TopicsMisset) as refused:
        look_up_topics(broker, settings)
    assert f"{prefix}{name}: message.timestamp.type is CreateTime" in str(refused.value)
    assert "`meterstream topics --repair`" in str(refused.value)
    _stamp(broker, prefix + name, "LogAppendTime")
    assert look_up_topics(broker, settings)[1] == 1


def _stamp(broker: Broker, topic: str, kind: str) -> None:
    """Set whose clock the records of a topic carry, and wait until the broker says so."""
    setting = "message.timestamp.type"
    entry = ConfigEntry(setting, kind, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(broker.settings.client())
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)
    eventually(lambda: broker.setting(topic, setting) == kind, 30, f"{topic} is {kind}")
