"""New generations on a real broker: no event is counted twice, and none is passed over."""

import asyncio
import dataclasses
import json
import logging
import uuid
from uuid import UUID

import pytest
from tests.support.craft import card, entries, envelope, session
from tests.support.metered import POLICY, MeteredPartition, now_us, same
from tests.support.services import create_topics

from meterstream.schemas.journal import HEADER_KEY, Chain, Section, unpack_sections
from meterstream.schemas.verdicts import Verdict
from meterstream.streams import generations
from meterstream.streams.core import (
    EventBatch,
    compute_step,
    idle_step,
)
from meterstream.streams.journal import (
    Counted,
    JournalWriter,
    Ledger,
    LedgerUnavailable,
    NotJoined,
)
from meterstream.streams.journal.genesis import NewGeneration, first_generation, new_generation
from meterstream.streams.journal.reader import read_log, take_valid
from meterstream.streams.journal.recount import kept_ids
from meterstream.streams.journal.restore import Topics, restore
from meterstream.streams.kafka import Broker, log_bounds
from meterstream.streams.meter import look_up_topics
from meterstream.streams.settings import MeterSettings


def counted(generation: int, journal_offset: int, position: int) -> Ledger:
    """Return a ledger that ends with this record."""
    return lambda topic_id, partition: Counted(generation, journal_offset, position)


def nobody(topic_id: UUID, partition: int) -> Counted | None:
    """Stand in for a ledger that must not be asked."""
    raise AssertionError("ClickHouse is asked although the journal tells all")


def no_clickhouse(topic_id: UUID, partition: int) -> Counted | None:
    """Stand in for a ClickHouse that does not answer."""
    raise LedgerUnavailable("ClickHouse at http://127.0.0.1:1 does not answer")


def planned(
    partition: MeteredPartition, ledger: Ledger | None = None, topics: Topics | None = None
) -> NewGeneration:
    """Return the generation that would begin now."""
    return new_generation(
        partition.broker, topics or partition.topics, POLICY, 0, ledger, 10_000_000
    )


def begin_again(
    partition: MeteredPartition, ledger: Ledger | None = None, topics: Topics | None = None
) -> list[int]:
    """Run `meterstream meter --new-generation` up to where it starts to work."""
    return asyncio.run(
        generations.begin_where_needed(
            partition.broker, partition.settings, topics or partition.topics, POLICY, 1, ledger
        )
    )


def damage(partition: MeteredPartition) -> None:
    """Write a record that is valid by its header and has another value: nobody reads past it."""
    header = idle_step(partition.state, partition.state.clock_us).header
    partition.producer.produce(
        partition.topics.journal,
        b"damaged",
        partition=0,
        headers=[(HEADER_KEY, header.pack())],
    )
    assert partition.producer.flush(30) == 0


def drop_snapshot(partition: MeteredPartition, journal_offset: int) -> None:
    """Delete a snapshot."""
    key = f"manifest/{journal_offset}".encode()
    partition.producer.produce(partition.topics.snapshots, None, key=key, partition=0)
    assert partition.producer.flush(30) == 0


def decided(partition: MeteredPartition) -> list[tuple[int, int, int]]:
    """Return generation and range of each valid record that decides events."""
    consumer = partition.broker.consumer()
    messages = read_log(consumer, partition.topics.journal, 0, 0, next_offset(partition))
    chain = Chain()
    found = [take_valid(chain, message) for _, message in messages]
    consumer.close()
    headers = [record.header for record in found if record is not None]
    return [(h.generation, h.events_from, h.events_to) for h in headers if h.events_to]


def next_offset(partition: MeteredPartition) -> int:
    """Return the end of the journal."""
    consumer = partition.broker.consumer()

    end = log_bounds(consumer, partition.topics.journal, 0)[1]
    consumer.close()
    return end


# --- from the journal ---


def test_the_chain_is_followed_behind_the_snapshot(partition: MeteredPartition) -> None:
    """It goes on where the last record stands that can be read, with all that it knew."""
    partition.snapshot()
    partition.count(5)
    partition.decide(session("heartbeat", at_us=now_us()))
    partition.take(compute_step(partition.state, None, catalog=entries({}), now_us=now_us()))
    damage(partition)
    new = planned(partition, lambda topic_id, number: None)
    header = new.step.header
    assert (header.generation, header.events_from, header.catalog_to) == (2, 36, 1)
    assert (header.prev, new.next_offset) == (7, 8)
    assert header.clock_us == partition.state.clock_us
    assert new.positions_from == "the journal"
    assert new.state.sessions == partition.state.sessions
    assert len(kept_ids(new.state)) == 36
    told = json.loads(bytes(unpack_sections(new.step.value)[Section.GENESIS]))
    assert told["open_cells_closed"] == partition.state.live_cells > 0
    (lost,) = told["lost"]
    assert "records after journal offset 6: at journal offset 7: the value's CRC-32" in lost


def test_the_journal_alone_is_enough(partition: MeteredPartition) -> None:
    """Without a snapshot the chain is followed from its genesis; records of others are passed."""
    partition.producer.produce(partition.topics.journal, b"what is this", partition=0)
    assert partition.producer.flush(30) == 0
    partition.count(5)
    damage(partition)
    new = planned(partition)
    assert new.step.header.events_from == 35
    assert any("ClickHouse was not asked" in lost for lost in new.lost)


def test_a_snapshot_beyond_a_journal_that_was_cut(partition: MeteredPartition) -> None:
    """The journal decides: what only a snapshot knows was never decided, for sinks remove it."""
    partition.snapshot()
    state = partition.state
    position, link = state.events_position, state.link
    state.link = dataclasses.replace(link, prev=9, next_offset=10, events_position=position + 5)
    partition.snapshot()
    with pytest.raises(NotJoined, match="records in between are lost"):
        partition.restored()
    new = planned(partition, nobody)
    assert (new.step.header.events_from, new.next_offset) == (30, 4)


def test_of_snapshots_that_join_nothing_the_newest_counts(partition: MeteredPartition) -> None:
    """Events between the two were counted, and are not counted again."""
    for _ in range(2):
        partition.snapshot()
        partition.count(5)
    partition.count(5)
    partition.forget("journal", 6)
    new = planned(partition)
    assert (new.step.header.events_from, len(kept_ids(new.state))) == (35, 35)


# --- from the ledger ---


def test_the_ledger_where_the_journal_breaks_off(partition: MeteredPartition) -> None:
    """What ClickHouse counted behind a hole, and will count, is known and not counted again."""
    partition.snapshot()
    for _ in range(4):
        partition.count(5)
    partition.forget("journal", 5)  # offset 4 is lost; a sink has read up to offset 6
    assert planned(partition).step.header.events_from == 30
    new = planned(partition, counted(1, 6, 45))
    assert new.step.header.events_from == 50  # the sink goes on to offset 7
    assert new.positions_from == "the ledger in ClickHouse"
    assert new.step.header.generation == 2
    assert new.state.dedup_ids == 50
    assert new.state.clock_us > 0
    behind = planned(partition, counted(1, 1, 10))  # a sink that stops at the hole as well
    assert (behind.step.header.events_from, behind.positions_from) == (30, "the journal")
    with pytest.raises(LedgerUnavailable):
        planned(partition, no_clickhouse)


def test_the_ledger_alone(partition: MeteredPartition) -> None:
    """Where journal and snapshots are lost it goes on behind ClickHouse, in a later generation."""
    create_topics(partition.settings.kafka_bootstrap, partition.settings.topic_prefix + "new.", 1)
    settings = MeterSettings(
        kafka_bootstrap=partition.settings.kafka_bootstrap,
        topic_prefix=partition.settings.topic_prefix + "new.",
    )
    empty, _ = look_up_topics(Broker(settings), settings)
    topics = dataclasses.replace(
        empty, events=partition.topics.events, events_id=partition.topics.events_id
    )
    with pytest.raises(NotJoined, match="count them twice"):
        planned(partition, None, topics)
    assert begin_again(partition, lambda topic_id, number: None, topics) == []
    with pytest.raises(NotJoined, match=r"counted .* up to offset 20.*--new-generation"):
        first_generation(partition.broker, topics, POLICY, counted(4, 700, 20), 0)
    with pytest.raises(LedgerUnavailable):
        begin_again(partition, no_clickhouse, topics)
    whole = planned(partition, counted(4, 700, 20), topics)
    assert whole.state.dedup_ids == 20
    partition.forget("events", 5)
    assert begin_again(partition, counted(4, 700, 20), topics) == [0]
    state = restore(partition.broker, topics, POLICY, 0).state
    assert state is not None
    assert (state.generation, state.events_position, state.dedup_ids) == (5, 20, 15)
    assert state.ids_since_us > whole.state.ids_since_us  # what offsets 0 to 4 held is too late


def test_events_that_the_log_no_longer_holds(partition: MeteredPartition) -> None:
    """Where identities cannot be found again, events from their time are too late, not doubled."""
    partition.snapshot()
    partition.count(5)
    partition.count(5)
    partition.forget("journal", 5)
    partition.forget("events", 32)
    new = planned(partition, counted(1, 5, 40))
    assert (new.step.header.events_from, new.state.dedup_ids) == (40, 38)
    assert any("of 2 events that were counted" in lost for lost in new.lost)
    assert new.state.ids_since_us > partition.state.ids_since_us


def test_a_first_generation_without_clickhouse(
    kafka: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A first start works without ClickHouse, and says that it could not check."""
    create_topics(kafka, prefix, 1)
    settings = MeterSettings(kafka_bootstrap=kafka, topic_prefix=prefix)
    topics, _ = look_up_topics(Broker(settings), settings)
    with caplog.at_level(logging.WARNING, "meterstream"):
        step = first_generation(Broker(settings), topics, POLICY, no_clickhouse, 0)
    assert step.header.generation == 1
    assert "could not be checked: ClickHouse at http://127.0.0.1:1" in caplog.text


# --- on other topics ---


def test_other_events(partition: MeteredPartition) -> None:
    """It begins at the start of events that were made again, and at the end of those cut off."""
    made_again = dataclasses.replace(partition.topics, events_id=uuid.uuid4())
    new = planned(partition, lambda topic_id, number: None, made_again)
    assert new.step.header.events_from == 0
    assert new.state.dedup_ids == 30
    assert "made again" in new.positions_from
    assert planned(partition, counted(7, 9, 12), made_again).step.header.events_from == 12
    beyond = EventBatch(30, 40, (), (), ())
    partition.take(compute_step(partition.state, beyond, now_us=partition.state.clock_us))
    new = planned(partition, nobody)
    assert new.step.header.events_from == 30
    assert "which was cut" in new.positions_from
    assert any("the log was cut" in lost for lost in new.lost)


@pytest.mark.parametrize("name", ["control", "catalog"])
def test_control_or_catalog_that_was_made_again(partition: MeteredPartition, name: str) -> None:
    """It is noticed however much the topic holds again, and a new generation reads all of it."""
    at_us = now_us()
    closed = envelope("import.closed", "c-1", at_us, {"team_id": "team", "import_id": "i"})
    data = {"team_id": "team", "grant_id": "g", "kind": "funded", "amount_micro": 5}
    granted = envelope("credits.granted", "c-2", at_us, data)
    step = compute_step(
        partition.state, None, catalog=entries(card()), control=entries(closed, granted),
        now_us=at_us,
    )  # fmt: skip
    partition.take(step)
    assert len(partition.state.control.kept) == 2
    other = uuid.uuid4()
    topics = (
        dataclasses.replace(partition.topics, control_id=other)
        if name == "control"
        else dataclasses.replace(partition.topics, catalog_id=other)
    )
    with pytest.raises(NotJoined, match=rf"{name} was made again.*--new-generation"):
        partition.restored(topics)
    partition.snapshot()
    with pytest.raises(NotJoined, match=rf"{name} was made again"):
        partition.restored(topics)
    assert begin_again(partition, nobody, topics) == [0]
    state = partition.restored(topics).state
    assert state is not None
    positions = {"control": state.control_position, "catalog": state.catalog_position}
    assert positions == {"control": 2, "catalog": 1} | {name: 0}
    assert len(state.control.kept) == (1 if name == "control" else 2)
    resent = entries(granted, first=state.control_position)
    again = compute_step(state, None, control=resent, now_us=at_us)
    assert not again.changes.control, "it is granted once"
    assert not again.changes.accounts
    assert list(state.entries.catalog) == list(partition.state.entries.catalog)
    assert state.events_position == 30


# --- beginning ---


def test_generations_begin_only_where_they_must(partition: MeteredPartition) -> None:
    """A partition that joins is left alone; one that does not goes on in a new generation."""
    partition.snapshot()
    assert begin_again(partition, nobody) == []
    partition.count(5)
    damage(partition)
    assert begin_again(partition) == [0]
    restored = partition.state_again()
    assert (restored.generation, restored.events_position) == (2, 35)
    assert restored.dedup_ids == 35
    assert begin_again(partition, nobody) == []


def test_a_crash_between_snapshot_and_genesis(
    partition: MeteredPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has begun then, and running the command again loses no identity."""
    partition.settings = partition.settings.model_copy(update={"journal_max_bytes": 64 * 1024})
    partition.count(1_500)
    partition.snapshot()
    partition.count(5)
    damage(partition)

    class Killed(Exception):
        """Stand in for the end of the process."""

    async def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as crash:
        crash.setattr(JournalWriter, "append", killed)
        with pytest.raises(Killed):
            begin_again(partition)
    with pytest.raises(NotJoined, match="--new-generation"):
        partition.restored()
    assert begin_again(partition) == [0]
    state = partition.state_again()
    assert (state.events_position, state.dedup_ids) == (1_535, 1_535)
    again = partition.send(1)
    step = compute_step(state, again, now_us=now_us())
    assert unpack_sections(step.value)[Section.VERDICTS] == bytes([Verdict.COUNTED])


def test_a_generation_whose_snapshot_is_gone(partition: MeteredPartition) -> None:
    """A genesis too large for its record is not restored without it, and begun once more."""
    partition.settings = partition.settings.model_copy(update={"journal_max_bytes": 64 * 1024})
    partition.count(1_500)
    partition.snapshot()
    damage(partition)
    assert begin_again(partition) == [0]
    assert same(partition.state_again(), partition.state_again())
    for journal_offset in (4, 6):
        drop_snapshot(partition, journal_offset)
    partition.forget("journal", 6)
    with pytest.raises(NotJoined, match=r"its snapshot is missing.*--new-generation"):
        partition.restored()
    assert begin_again(partition, counted(2, 6, 1_530)) == [0]
    state = partition.state_again()
    assert (state.generation, state.events_position, state.dedup_ids) == (3, 1_530, 1_530)


def test_a_meter_that_still_writes(
    partition: MeteredPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that joins while a generation is prepared makes its genesis void."""
    partition.snapshot()
    topics = dataclasses.replace(partition.topics, control_id=uuid.uuid4())
    append = JournalWriter.append

    async def late(writer: JournalWriter, number: int, header: bytes, value: bytes) -> object:
        batch = partition.send(5)
        step = compute_step(partition.state, batch, now_us=now_us())
        await append(partition.writer, 0, step.header.pack(), step.value)
        return await append(writer, number, header, value)

    with monkeypatch.context() as other:
        other.setattr(JournalWriter, "append", late)
        with pytest.raises(NotJoined, match="stop all meters"):
            begin_again(partition, nobody, topics)
    assert begin_again(partition, nobody, topics) == [0]
    state = partition.restored(topics).state
    assert state is not None
    assert (state.generation, state.events_position, state.dedup_ids) == (3, 35, 35)
    assert [row for row in decided(partition) if row[0] == 2] == []
