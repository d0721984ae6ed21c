"""The beginning of a state, and its way back from journal records alone."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from tests.support.core_runner import contents_of
from tests.support.craft import (
    CATALOG_TOPIC,
    CONTROL_TOPIC,
    DAY,
    EVENTS_TOPIC,
    HOUR,
    JOURNAL_TOPIC,
    MINUTE,
    NOW,
    Partition,
    batch_of,
    card,
    entries,
    envelope,
    run,
    session,
    verdicts,
)

from meterstream.schemas.journal import (
    Header,
    Link,
    MalformedRecord,
    Section,
    pack_sections,
    unpack_sections,
)
from meterstream.schemas.journal.header import NONE, Kind
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    EventBatch,
    Ids,
    LastEvent,
    NotNext,
    PartitionState,
    Policy,
    SnapshotNeeded,
    Step,
    apply_record,
    apply_step,
    begin,
    compute_step,
    genesis_step,
    idle_step,
)
from meterstream.streams.core.entries import KeptEntry, judge_catalog
from meterstream.streams.core.limits import Stand
from meterstream.streams.core.restore import decode_changes
from meterstream.streams.core.total_rows import totals_of
from meterstream.streams.core.windows import windows_at

POLICY = Policy(1)
SOME_IDS = Ids.of(
    np.array([9, 3], np.uint64),
    np.array([1, 2], np.uint64),
    np.array([4, 5], np.uint32),
    np.array([NOW // HOUR] * 2, np.uint32),
)


def genesis(
    generation: int = 1, prev: int = NONE, ids: Ids | None = None, max_bytes: int | None = None
) -> Step:
    """Return a genesis record that names positions of its own."""
    return genesis_step(
        grace_seconds=600,
        generation=generation,
        events_topic_id=EVENTS_TOPIC,
        journal_topic_id=JOURNAL_TOPIC,
        control_topic_id=CONTROL_TOPIC,
        catalog_topic_id=CATALOG_TOPIC,
        events_from=50,
        control_from=6,
        catalog_from=7,
        clock_us=NOW,
        prev=prev,
        ids=ids,
        max_bytes=max_bytes,
    )


TOPIC_IDS = {"control_topic_id": str(CONTROL_TOPIC), "catalog_topic_id": str(CATALOG_TOPIC)}


def beginning_of(step: Step) -> dict[str, object]:
    """Return what a genesis says of its generation."""
    found: dict[str, object] = json.loads(bytes(unpack_sections(step.value)[Section.GENESIS]))
    return found


def test_a_genesis_begins_a_state_at_its_positions() -> None:
    """The state after a genesis stands where it says, and knows nothing else."""
    step = genesis()
    header = step.header
    assert (step.kind, header.generation, header.prev) == (Kind.GENESIS, 1, NONE)
    assert (header.events_from, header.events_to, header.control_to, header.catalog_to) == (
        50,
        50,
        6,
        7,
    )
    assert (header.clock_us, header.clock_limit_us) == (NOW, NOW)
    assert (header.last_event_offset, header.last_event_hash) == (NONE, 0)
    assert (header.last_event_time_us, header.last_event_epoch) == (0, NONE)
    assert (step.counts, step.reasons, step.rows) == ({}, {}, 0)
    assert list(unpack_sections(step.value)) == [Section.GENESIS]
    assert beginning_of(step) == TOPIC_IDS
    state = begin(POLICY, 0, 9, NOW + 5, step)
    assert state.link == Link(10, 9, 1, 50, NOW)
    assert (state.control_topic_id, state.catalog_topic_id) == (CONTROL_TOPIC, CATALOG_TOPIC)
    assert (state.events_position, state.control_position, state.catalog_position) == (50, 6, 7)
    assert (state.clock_us, state.last_event, state.partition) == (NOW, LastEvent(), 0)
    assert (state.live_cells, state.dedup_ids, state.dedup_bytes) == (0, 0, 0)
    assert not state.live_cells
    assert (state.closed_us, state.ids_since_us) == (NOW - 10 * MINUTE, NOW - DAY)


@pytest.mark.parametrize("grace_us", [0, HOUR])
def test_a_genesis_closes_minutes_by_its_writers_grace(grace_us: int) -> None:
    """A meter with another grace begins with the same minutes closed as its writer."""
    step = genesis()
    written = begin(Policy(1, grace_us=grace_us), 0, 9, NOW, step)
    read = apply_record(Policy(1, grace_us=grace_us), 0, None, 9, NOW, step.header, step.value)
    assert written.closed_us == read.closed_us == NOW - 10 * MINUTE


def test_a_genesis_carries_over_what_it_names() -> None:
    """Ids, sessions and entries of the generation before are known in the new one."""
    grant = {"team_id": "t", "grant_id": "g", "kind": "funded", "amount_micro": 5}
    entry = KeptEntry(1, 2, json.dumps(envelope("credits.granted", "g", NOW, grant)))
    old = Partition()
    old.take(session("started", application="x"))
    day, _ = windows_at("UTC", NOW)
    taken, _ = judge_catalog(Partition().state.entries, entries(card(prices=[{"run_micro": 5}])))
    step = genesis_step(
        grace_seconds=600,
        generation=3,
        events_topic_id=EVENTS_TOPIC,
        journal_topic_id=JOURNAL_TOPIC,
        control_topic_id=CONTROL_TOPIC,
        catalog_topic_id=CATALOG_TOPIC,
        events_from=0,
        clock_us=NOW,
        prev=8,
        ids=SOME_IDS,
        sessions=tuple(old.state.sessions.values()),
        catalog=tuple(taken),
        control=(entry,),
        totals=totals_of(old.state.totals),
        reached=[Stand(("team", "l"), day, 500)],
        carried={"lost": ["balances"]},
    )
    assert step.header.prev == 8
    assert beginning_of(step) == TOPIC_IDS | {"lost": ["balances"]}
    begun = begin(POLICY, 0, 9, NOW, step)
    read = apply_record(POLICY, 0, None, 9, NOW, step.header, step.value)
    assert contents_of(read) == contents_of(begun)
    assert read.generation == 3
    assert read.dedup_ids == 2
    assert read.sessions == old.state.sessions
    assert list(read.control.kept.values()) == [entry]
    assert read.entries.book.labels == ["default@1"]
    assert contents_of(read)["totals"] == contents_of(old.state)["totals"]
    assert len(list(read.totals.items())) == 2
    assert read.reached == {day: {("team", "l"): 500}}


def test_a_genesis_that_is_too_large_leaves_it_to_its_snapshot() -> None:
    """What does not fit is known to the writer, and a reader of the record alone must stop."""
    fits, small = (genesis(2, ids=SOME_IDS, max_bytes=size) for size in (48, 47))
    assert fits.value == genesis(2, ids=SOME_IDS).value
    assert list(unpack_sections(small.value)) == [Section.GENESIS]
    assert beginning_of(small)["needs_snapshot"] is True
    assert begin(POLICY, 0, 9, NOW, small).dedup_ids == 2
    with pytest.raises(SnapshotNeeded, match="generation 2 begins here, and its snapshot is miss"):
        apply_record(POLICY, 0, None, 9, NOW, small.header, small.value)


def test_a_genesis_without_its_beginning_is_malformed() -> None:
    """Without the section that names its topics a genesis cannot be taken."""
    header = replace(genesis().header, value_crc32=0)
    with pytest.raises(MalformedRecord, match="says nothing of its generation"):
        apply_record(POLICY, 0, None, 9, NOW, header, b"")


def test_a_generation_knows_the_events_it_was_told_of() -> None:
    """An event whose id a genesis carries over is a duplicate in the new generation."""
    old = Partition()
    old.take(run("a"), run("b"))
    ids = [one.ids() for one in old.state.dedup.runs()]
    (only,) = ids
    state = begin(POLICY, 0, 0, NOW, replace_start(genesis(2, ids=only)))
    step = compute_step(state, _batch(state, "a", "c"), now_us=NOW)
    assert verdicts(step) == [Verdict.DUPLICATE, Verdict.COUNTED]


def replace_start(step: Step) -> Step:
    """Return a genesis that starts at offset 0."""
    return replace(step, header=replace(step.header, events_from=0, events_to=0))


def _batch(state: PartitionState, *names: str) -> EventBatch:
    return batch_of(state.events_position, [run(name) for name in names], [NOW] * len(names))


@pytest.mark.parametrize(("since_us", "floor_us"), [(NOW - HOUR, NOW - HOUR), (0, NOW - DAY)])
def test_a_generation_takes_nothing_from_before_its_ids(since_us: int, floor_us: int) -> None:
    """Events older than the ids that a genesis carries over are too late in its generation."""
    step = genesis_step(
        grace_seconds=600,
        generation=2,
        events_topic_id=EVENTS_TOPIC,
        journal_topic_id=JOURNAL_TOPIC,
        control_topic_id=CONTROL_TOPIC,
        catalog_topic_id=CATALOG_TOPIC,
        events_from=0,
        clock_us=NOW,
        ids_since_us=since_us,
        carried={"lost": []},
    )
    begun = begin(POLICY, 0, 9, NOW, step)
    read = apply_record(POLICY, 0, None, 9, NOW, step.header, step.value)
    assert begun.ids_since_us == read.ids_since_us == floor_us
    assert beginning_of(step) == TOPIC_IDS | {"lost": [], "ids_since_us": since_us}
    events = [run("a", floor_us - 1), run("b", floor_us)]
    decided = compute_step(read, batch_of(0, events, [NOW, NOW]), now_us=NOW)
    assert verdicts(decided) == [Verdict.TOO_LATE, Verdict.COUNTED]


def test_an_empty_genesis_writes_no_section_for_nothing() -> None:
    """No ids and no entries take no bytes."""
    assert genesis(ids=Ids.from_bytes(b"")).value == genesis().value


def test_a_later_genesis_replaces_the_state() -> None:
    """Reading the genesis of the next generation leaves nothing of the one before."""
    partition = Partition()
    partition.take(run(), session("heartbeat"))
    step = genesis(2, prev=1)
    state = apply_record(POLICY, 0, partition.state, 2, NOW, step.header, step.value)
    assert state is not partition.state
    assert (state.generation, state.live_cells, state.dedup_ids, state.sessions) == (2, 0, 0, {})
    assert state.link == Link(3, 2, 2, 50, NOW)


def test_a_whole_journal_gives_the_state_back() -> None:
    """Reading every record from the genesis on leads to the state that wrote them."""
    partition = Partition()
    partition.take(run("a"), run("b", NOW - HOUR), catalog=entries(card()))
    partition.idle(NOW + 5 * MINUTE)
    partition.take(session("started", application="x"), run("a"), at_us=NOW + 6 * MINUTE)
    state: PartitionState | None = None
    for offset, timestamp_us, header, value in partition.journal:
        state = apply_record(POLICY, 0, state, offset, timestamp_us, header, value)
    assert state is not None
    assert contents_of(state) == contents_of(partition.state)


def test_a_record_before_any_genesis_is_refused() -> None:
    """Without a state only a genesis can be read."""
    step = idle_step(Partition().state, NOW)
    with pytest.raises(NotNext, match="journal offset 7 comes before any genesis record"):
        apply_record(POLICY, 0, None, 7, NOW, step.header, step.value)


def test_only_the_next_record_changes_a_state() -> None:
    """A record that continues another one is refused, and the state stays as it was."""
    partition = Partition()
    stale = compute_step(partition.state, _batch(partition.state, "a"), now_us=NOW)
    partition.take(run("b"))
    before = contents_of(partition.state)
    with pytest.raises(NotNext, match="journal offset 2 does not continue 1 of partition 0"):
        apply_step(partition.state, stale, 2, NOW)
    with pytest.raises(NotNext):
        apply_step(partition.state, idle_step(partition.state, NOW), 1, NOW)
    assert contents_of(partition.state) == before
    assert partition.state.dedup_ids == 1


def test_a_genesis_changes_no_state() -> None:
    """It begins one, whoever applies it."""
    with pytest.raises(NotNext, match="a genesis record begins a state and changes none"):
        apply_step(Partition().state, genesis(2), 1, NOW)


def test_void_records_between_are_passed() -> None:
    """A record may be applied at any later offset, since void ones may stand before it."""
    partition = Partition()
    step = compute_step(partition.state, _batch(partition.state, "a"), now_us=NOW)
    apply_step(partition.state, step, 7, NOW)
    assert partition.state.link == Link(8, 7, 1, 1, NOW)


def test_a_value_that_is_not_its_headers_is_malformed() -> None:
    """One changed byte stops the reader before anything is changed."""
    partition = Partition()
    step = compute_step(partition.state, _batch(partition.state, "a"), now_us=NOW)
    with pytest.raises(MalformedRecord, match="CRC-32"):
        apply_record(POLICY, 0, partition.state, 1, NOW, step.header, step.value[:-1] + b"\0\0")
    assert partition.state.link.prev == 0


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({Section.CELLS: b"x"}, "not an Arrow stream"),
        ({Section.SESSIONS: b"x"}, "not an Arrow stream"),
        ({Section.IDS: b"x"}, "no whole number of ids"),
        ({Section.CATALOG: b"x"}, "Expecting value"),
        ({Section.CATALOG: b"[1]"}, "must be an iterable"),
        ({Section.CONTROL: b'["ab"]'}, "missing 1 required"),
        ({Section.CONTROL: b"1"}, "not iterable"),
        ({Section.GENESIS: b"{"}, "Expecting"),
        ({Section.GENESIS: b"[]"}, "indices must be integers"),
        ({Section.GENESIS: b"{}"}, "control_topic_id"),
        ({Section.GENESIS: b'{"control_topic_id": 1}'}, "no attribute"),
    ],
)
def test_a_value_that_cannot_be_decoded_is_malformed(
    sections: Mapping[Section, bytes], reason: str
) -> None:
    """Whatever is wrong within a section, a reader is told that it must stop."""
    with pytest.raises(MalformedRecord, match=reason):
        decode_changes(pack_sections(sections))


def test_a_record_of_unknown_sections_changes_nothing() -> None:
    """Verdicts, charges, late rows and what newer versions write are not the state's."""
    changes = decode_changes(pack_sections({Section.VERDICTS: b"x", Section.CHARGES: b"?"}))
    assert (len(changes.cells), changes.ids, changes.sessions) == (0, None, ())
    assert (changes.catalog, changes.control) == ((), ())


def test_a_record_whose_entries_are_no_longer_understood_changes_nothing() -> None:
    """A state is never changed by half: an entry that cannot be read is found before the rest."""
    partition = Partition()
    value = pack_sections({Section.CATALOG: b'[[0, 0, "{}"]]'})
    header = replace(
        idle_step(partition.state, NOW).header, kind=Kind.STEP, value_crc32=zlib.crc32(value)
    )
    before = contents_of(partition.state)
    with pytest.raises(ValueError, match="missing_field"):
        apply_record(POLICY, 0, partition.state, 1, NOW, Header.unpack(header.pack()), value)
    assert contents_of(partition.state) == before
