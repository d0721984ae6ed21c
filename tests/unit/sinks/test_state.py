"""What a partition knows between two flushes, and in which order a flush goes."""

import pyarrow as pa
import pytest
from tests.support.journal import DAY_US, GRACE_US, MINUTE_US, TODAY_US, Writer, cell, decoded

from meterstream.schemas.journal import Link
from meterstream.sinks.closing import Closing
from meterstream.sinks.errors import JournalBroken
from meterstream.sinks.flush import flush
from meterstream.sinks.state import Lineage, PartitionState, Watermark
from meterstream.sinks.store import Refused
from meterstream.sinks.windows import CLOSED_FOREVER, Closed


class Store:
    """A store that notes what it is asked, and refuses the rows of one user."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.tables: dict[str, list[dict[str, object]]] = {}

    def insert(self, target: str, table: pa.Table) -> list[Refused]:
        self.calls.append(target)
        rows = table.to_pylist()
        self.tables.setdefault(target, []).extend(rows)
        return [Refused(target, row, "no") for row in rows if row.get("user_id") == "bad"]

    def close(self, closing: Closing) -> None:
        self.calls.append(f"close {closing.was.quarter_s} {closing.now.quarter_s}")


def run(state: PartitionState) -> tuple[Store, dict[int, Link]]:
    """Flush `state` into a new store; return it with the committed links."""
    store, links = Store(), dict[int, Link]()

    def commit(given: object) -> None:
        store.calls.append("commit")
        links.update(given)  # type: ignore[call-overload]

    flush([state], store, commit, now_us=7)
    return store, links


def filled(*records: object) -> PartitionState:
    """Return a partition with `records` pending."""
    state = PartitionState(0)
    for one in decoded(*records):  # type: ignore[arg-type]
        state.add(one)
    return state


def test_the_flush_goes_in_the_order_that_survives_kills() -> None:
    """Minutes before coarse rows, those before their watermark, the ledger, positions, commit."""
    writer = Writer()
    state = filled(
        writer.genesis(TODAY_US),
        writer.step(
            [cell(TODAY_US)],
            late=[cell(TODAY_US - DAY_US)],
            charges=[{"event_offset": 0}, {"event_offset": 1}],
            sessions=[{"session_id": "s"}],
        ),
        writer.idle(TODAY_US + 26 * MINUTE_US),
    )
    store, links = run(state)
    closing = f"close {TODAY_US // 10**6 - 900} {TODAY_US // 10**6 + 900}"
    assert store.calls == [
        "watermarks",
        "usage_minutes",
        "charges",
        "usage_minutes",
        "usage_quarters",
        "usage_days",
        "sessions",
        closing,
        "watermarks",
        "ledger",
        "positions",
        "commit",
    ]
    assert links == {0: writer.chain.link}
    assert state.pending == []


def test_a_watermark_is_written_when_it_moves() -> None:
    """A lineage's first one, and then one for each flush that closes something."""
    writer = Writer()
    state = filled(writer.genesis(TODAY_US), writer.step([cell(TODAY_US)]))
    written = []
    for clock_us in (TODAY_US, TODAY_US + MINUTE_US, TODAY_US + 26 * MINUTE_US):
        for one in decoded(writer.idle(clock_us)):
            state.add(one)
        written.append(len(run(state)[0].tables.get("watermarks", [])))
    assert written == [1, 0, 1]


def test_nothing_pending_stores_nothing() -> None:
    """A flush without records writes and commits nothing."""
    store, _ = run(PartitionState(0))
    assert store.calls == []


def test_of_a_cell_the_newest_row_is_sent_and_of_charges_all() -> None:
    """Cells are absolute values; charges are not."""
    writer = Writer()
    state = filled(
        writer.genesis(TODAY_US),
        writer.step([cell(TODAY_US, runs=1)], charges=[{"event_offset": 0}]),
        last := writer.step([cell(TODAY_US, runs=2)], charges=[{"event_offset": 1}]),
    )
    store, _ = run(state)
    (minute,) = store.tables["usage_minutes"]
    assert (minute["runs"], minute["version"]) == (2, last.version)
    assert [row["event_offset"] for row in store.tables["charges"]] == [0, 1]


def test_a_refused_minute_holds_its_windows_and_no_earlier_one() -> None:
    """What closed before it closes; its own quarter and day wait."""
    writer = Writer()
    start = TODAY_US - DAY_US
    state = filled(
        writer.genesis(start),
        writer.step([cell(start + 20 * MINUTE_US, user_id="bad"), cell(start)]),
        writer.idle(TODAY_US + GRACE_US),
    )
    run(state)
    (watermark,) = state.watermarks.values()
    assert watermark.closed == Closed(start // 10**6 + 900, start // 10**6)


def test_a_refused_minute_holds_no_other_partitions_windows() -> None:
    """Of two partitions that are flushed together, the one without it closes its day."""
    start, states = TODAY_US - DAY_US, []
    for partition, user in enumerate(("good", "bad")):
        writer, state = Writer(partition=partition), PartitionState(partition)
        for one in decoded(
            writer.genesis(start),
            writer.step([cell(start + 20 * MINUTE_US, user_id=user)]),
            writer.idle(TODAY_US + GRACE_US),
        ):
            state.add(one)
        states.append(state)
    flush(states, Store(), lambda _: None, now_us=7)
    closed = [watermark.closed for one in states for watermark in one.watermarks.values()]
    assert closed == [
        Closed(TODAY_US // 10**6, TODAY_US // 10**6),
        Closed(start // 10**6 + 900, start // 10**6),
    ]


def test_a_minute_after_its_quarter_closed_is_refused() -> None:
    """It names the minute and the record, and stores nothing."""
    writer = Writer()
    state = filled(writer.genesis(TODAY_US), writer.idle(TODAY_US + 30 * MINUTE_US))
    run(state)
    (changed,) = decoded(writer.step([cell(TODAY_US)]))
    with pytest.raises(JournalBroken, match=f"offset 2 changes the minute {TODAY_US // 10**6} "):
        state.add(changed)
    assert state.pending == []


def test_each_record_closes_by_its_own_grace() -> None:
    """A longer grace opens nothing again, and a shorter one closes more at the same clock."""
    writer = Writer(grace_seconds=0)
    state = filled(writer.genesis(TODAY_US), writer.idle(TODAY_US + 30 * MINUTE_US))
    writer.grace_seconds = 3600
    state.add(*decoded(writer.idle(TODAY_US + 31 * MINUTE_US)))
    (closing,) = state.closings()
    assert closing.now.quarter_s == TODAY_US // 10**6 + 1800
    run(state)
    writer.grace_seconds = 60
    state.add(*decoded(writer.idle(TODAY_US + 46 * MINUTE_US)))
    (closing,) = state.closings()
    assert closing.was.quarter_s == TODAY_US // 10**6 + 1800
    assert closing.now.quarter_s == TODAY_US // 10**6 + 2700


def test_a_lost_watermark_begins_before_the_minutes_of_its_first_record() -> None:
    """Records before it may have had a longer grace than it has."""
    writer = Writer()
    writer.genesis(TODAY_US)
    writer.idle(TODAY_US + 30 * MINUTE_US)
    writer.grace_seconds = 0
    state = PartitionState(0, writer.chain.link)
    state.add(*decoded(writer.step([cell(TODAY_US + 20 * MINUTE_US)])))
    (watermark,) = state.watermarks.values()
    assert watermark.closed.quarter_s == TODAY_US // 10**6 + 900


def test_an_older_generation_closes_for_ever_and_a_newer_one_is_let_be() -> None:
    """Only what the pending records end is ended."""
    writer = Writer()
    state = filled(writer.genesis(TODAY_US), writer.new_generation(TODAY_US))
    newer = Lineage(writer.events_topic_id, 9)
    state.watermarks[newer] = Watermark(Closed(0, 0))
    found = {closing.generation: closing.now for closing in state.closings()}
    assert found[1] == CLOSED_FOREVER
    assert 9 not in found
    run(state)
    assert {lineage.generation for lineage in state.watermarks} == {2, 9}


def test_a_lineage_without_a_watermark_begins_at_the_link() -> None:
    """A restart whose watermark is lost closes nothing that it does not know to be closed."""
    writer = Writer()
    writer.genesis(TODAY_US)
    state = PartitionState(0, writer.chain.link)
    for one in decoded(writer.step([cell(TODAY_US)], clock_us=TODAY_US + DAY_US)):
        state.add(one)
    (watermark,) = state.watermarks.values()
    assert watermark.closed.quarter_s == TODAY_US // 10**6 - 900
    assert watermark.is_new
