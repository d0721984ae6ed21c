"""A step: what is decided about a batch, offset by offset, whatever the batch's borders."""

import pytest
import xxhash
from tests.support.core_runner import contents_of
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Json,
    Partition,
    batch_of,
    cells,
    charges,
    encode,
    entries,
    envelope,
    rejects,
    run,
    session,
    verdicts,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.journal.header import NONE, Kind
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    EventBatch,
    LastEvent,
    Step,
    compute,
    compute_step,
)

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


def started(event_id: str, at_us: int = NOW) -> Json:
    """Return the start of a run."""
    data = {
        "team_id": "team",
        "run_id": "r",
        "operation": "feature",
        "started_at": "2026-01-01T00:00:00Z",
    }
    return envelope("run.started", event_id, at_us, data)


def test_a_run_is_counted_in_its_minute() -> None:
    """A completed run becomes a cell of the minute of its event time, with all that it used."""
    partition = Partition(clock_us=NOW + 30 * SECOND)
    step = partition.take(
        run(
            at_us=NOW + 61 * SECOND,
            started_us=NOW + 59 * SECOND,
            input_tokens=10,
            output_tokens=20,
            cached_tokens=3,
            reasoning_tokens=4,
            latency_us=1_500,
            time_to_first_token_us=7,
            request_bytes=8,
            response_bytes=9,
            credits_micro=11,
            status="failed",
        ),
        at_us=NOW + 62 * SECOND,
    )
    assert verdicts(step) == [COUNTED]
    assert cells(step) == [
        (
            60,
            {
                "runs": 1, "errors": 1, "input_tokens": 10, "output_tokens": 20, "cached_tokens": 3,
                "reasoning_tokens": 4, "credits_micro": 11, "duration_us": 2 * SECOND,
                "request_bytes": 8, "response_bytes": 9, "latency_us": 1_500, "first_token_us": 7,
            },
        )
    ]  # fmt: skip
    assert (step.rows, step.counts, step.reasons, step.skewed_log_times) == (
        1,
        {"counted": 1},
        {},
        0,
    )
    assert partition.state.live_cells == partition.state.dedup_ids == 1


def test_only_completed_runs_make_usage() -> None:
    """Starts and session events are counted in the ledger, keep their ids, and cost nothing."""
    partition = Partition()
    step = partition.take(started("a"), session("heartbeat", "b"), session("heartbeat", "b"))
    assert verdicts(step) == [COUNTED, COUNTED, DUPLICATE]
    assert (cells(step), charges(step), step.rows) == ([], [], 0)
    assert step.counts == {"counted": 2, "duplicate": 1}
    assert partition.state.dedup_ids == 2
    assert set(unpack_sections(step.value)) == {Section.VERDICTS, Section.IDS, Section.SESSIONS}


def test_runs_of_one_cell_add_up_over_records() -> None:
    """A cell's record holds its absolute values, those of earlier records included."""
    partition = Partition()
    first = partition.take(run("a", input_tokens=1), run("b", input_tokens=2, user_id="u"))
    second = partition.take(run("c", input_tokens=5, status="cancelled"))
    plain = {"duration_us": SECOND, "latency_us": SECOND}
    assert cells(first) == [
        (0, {"runs": 1, "unpriced_runs": 1, "input_tokens": 1, **plain}),
        (0, {"runs": 1, "unpriced_runs": 1, "input_tokens": 2, **plain}),
    ]
    assert cells(second) == [
        (
            0,
            {
                "runs": 2, "unpriced_runs": 2, "input_tokens": 6,
                "duration_us": 2 * SECOND, "latency_us": 2 * SECOND,
            },
        )
    ]  # fmt: skip


def test_each_offset_has_one_verdict_gaps_included() -> None:
    """Offsets without a record are gaps, or unread below the log's start; others are judged."""
    partition = Partition()
    step = partition.take_batch(
        EventBatch(0, 9, (3, 6), (NOW, NOW), (encode(run("a")), b""), log_start=2)
    )
    unread, gap = Verdict.UNREAD, Verdict.GAP
    assert verdicts(step) == [unread, unread, gap, COUNTED, gap, gap, Verdict.EMPTY, gap, gap]
    assert step.counts == {"unread": 2, "gap": 5, "counted": 1, "rejected": 1}
    assert step.reasons == {"empty": 1}
    assert [c["event_offset"] for c in charges(step)] == [3]
    assert rejects(step)[0][:3] == ("events", 6, Verdict.EMPTY)
    assert partition.state.events_position == 9


@pytest.mark.parametrize("log_start", [0, 4, 5, 6, 9, 99])
def test_a_batch_without_records_is_decided(log_start: int) -> None:
    """Gaps alone move the position; those below the log's start are unread."""
    partition = Partition()
    partition.take_batch(EventBatch(0, 4, (), (), ()))
    step = partition.take_batch(EventBatch(4, 9, (), (), (), log_start=log_start))
    unread = min(max(log_start - 4, 0), 5)
    assert verdicts(step) == [Verdict.UNREAD] * unread + [Verdict.GAP] * (5 - unread)
    assert partition.state.events_position == 9
    assert partition.state.last_event == LastEvent()


def test_a_batch_must_continue_the_state() -> None:
    """A batch that starts anywhere else is refused before anything is computed."""
    partition = Partition()
    for start in (1, -1):
        with pytest.raises(ValueError, match=f"starts at offset {start}, the state is at 0"):
            compute_step(partition.state, EventBatch(start, 9, (), (), ()), now_us=NOW)


def test_the_last_event_is_remembered() -> None:
    """Offset, log time, hash and epoch of the last record join a restored state to its log."""
    partition = Partition()
    assert partition.state.last_event == LastEvent(NONE, 0, 0, NONE)
    value = encode(run())
    batch = EventBatch(0, 9, (3, 5), (NOW, NOW - 7), (value, b"x"), leader_epoch=4)
    header = partition.take_batch(batch).header
    assert partition.state.last_event == LastEvent(5, NOW - 7, xxhash.xxh3_64_intdigest(b"x"), 4)
    assert (header.last_event_offset, header.last_event_time_us, header.last_event_epoch) == (
        5,
        NOW - 7,
        4,
    )
    partition.take_batch(EventBatch(9, 12, (), (), ()))
    assert partition.state.last_event.offset == 5
    partition.take(None)
    assert partition.state.last_event == LastEvent(12, NOW, xxhash.xxh3_64_intdigest(b""), NONE)


def test_the_header_says_where_the_record_stands() -> None:
    """A step's header continues the state it was computed from."""
    partition = Partition()
    partition.take(run("a"))
    step = partition.take(
        run("b"), at_us=NOW + 9, control=entries(None, first=3), catalog=entries(None, first=5)
    )
    header = step.header
    assert (step.kind, header.kind) == (Kind.STEP, Kind.STEP)
    assert (header.generation, header.prev, header.events_from, header.events_to) == (1, 1, 1, 2)
    assert (header.control_to, header.catalog_to) == (4, 6)
    assert (header.clock_us, header.clock_limit_us) == (NOW + 9, NOW + 9)
    assert (header.events_topic_id.int, header.journal_topic_id.int) == (1, 2)
    header.check_value(step.value)


def test_charges_name_their_cells() -> None:
    """`cell` counts the rows of CELLS and then those of LATE_MINUTES, in offset order of runs."""
    partition = Partition(clock_us=NOW + HOUR)
    on_time, late = NOW + HOUR, NOW + 20 * MINUTE
    step = partition.take(
        run("a", late, user_id="x", credits_micro=1),
        run("b", on_time, user_id="y", credits_micro=2),
        session("heartbeat"),
        run("c", late + MINUTE, user_id="x", credits_micro=3),
        run("d", on_time, user_id="z", credits_micro=4),
        b"",
        run("e", late, user_id="x", credits_micro=5),
        run("b", on_time, user_id="y", credits_micro=2),
        run("f", on_time, user_id="y", credits_micro=6),
    )
    assert [(c["event_offset"], c["cell"], c["credits_micro"]) for c in charges(step)] == [
        (0, 2, 1), (1, 0, 2), (3, 3, 3), (4, 1, 4), (6, 2, 5), (8, 0, 6),
    ]  # fmt: skip
    assert [(s, sums["credits_micro"]) for s, sums in cells(step)] == [(3600, 8), (3600, 4)]
    assert [(s, sums["credits_micro"]) for s, sums in cells(step, Section.LATE_MINUTES)] == [
        (1200, 6),
        (1260, 3),
    ]
    assert step.rows == 2 + 2 + 1 + 1


def test_late_runs_are_folded_by_every_grain() -> None:
    """Late rows come by minute, quarter of an hour and day (UTC), over the record's late runs."""
    partition = Partition(clock_us=NOW + 20 * HOUR)
    times = [NOW - 1, NOW, NOW + 14 * MINUTE, NOW + 15 * MINUTE, NOW + 15 * MINUTE + 1]
    step = partition.take(*(run(str(i), at, credits_micro=10**i) for i, at in enumerate(times)))

    def credited(section: Section) -> list[tuple[int, int]]:
        return [(start, sums["credits_micro"]) for start, sums in cells(step, section)]

    assert credited(Section.LATE_MINUTES) == [(-60, 1), (0, 10), (840, 100), (900, 11_000)]
    assert credited(Section.LATE_QUARTERS) == [(-900, 1), (0, 110), (900, 11_000)]
    assert credited(Section.LATE_DAYS) == [(-86_400, 1), (0, 11_110)]
    assert cells(step) == []
    assert step.rows == 4 + 3 + 2
    assert partition.state.live_cells == 0


def test_late_rows_stand_by_themselves() -> None:
    """A late row holds what its own record counted, and nothing of the minute before it closed."""
    partition = Partition()
    partition.take(run("a", credits_micro=5))
    partition.take(run("b", credits_micro=7), at_us=NOW + 11 * MINUTE)
    step = partition.take(run("c", credits_micro=9))
    assert [sums["credits_micro"] for _, sums in cells(step, Section.LATE_MINUTES)] == [9]


def test_a_minute_that_is_closed_in_an_open_quarter_is_late_in_both() -> None:
    """The on-time quarter is made of on-time minutes, so a late run goes to the late quarter."""
    step = Partition(clock_us=NOW + 12 * MINUTE).take(run("a", credits_micro=5))
    assert cells(step) == []
    for section in (Section.LATE_MINUTES, Section.LATE_QUARTERS, Section.LATE_DAYS):
        assert cells(step, section)[0][1]["credits_micro"] == 5


def test_nothing_makes_an_empty_step() -> None:
    """Without events and entries there is nothing to write."""
    partition = Partition()
    step = partition.take_batch(None)
    assert (step.value, step.counts, step.reasons, step.is_empty) == (b"", {}, {}, True)
    assert partition.take_batch(EventBatch(0, 0, (), (), ())).is_empty
    assert not partition.take_batch(EventBatch(0, 1, (), (), ())).is_empty


def test_an_idle_record_lets_the_clock_go_on() -> None:
    """It decides nothing, and may move the clock to the broker's time up to ten minutes ahead."""
    partition = Partition()
    partition.take(run())
    step = partition.idle(NOW + 11 * MINUTE - 1)
    assert (step.kind, step.value, step.is_empty, step.counts) == (Kind.IDLE, b"", True, {})
    header = step.header
    assert (header.events_from, header.events_to, header.clock_us) == (1, 1, NOW)
    assert header.clock_limit_us == NOW + 11 * MINUTE - 1 + 10 * MINUTE
    assert (header.last_event_offset, header.control_to, header.catalog_to) == (0, 0, 0)
    assert partition.state.live_cells
    partition.idle(NOW + 11 * MINUTE)
    assert partition.state.clock_us == NOW + 11 * MINUTE
    assert not partition.state.live_cells


@pytest.mark.parametrize(
    ("timestamp_us", "now_us", "clock_us"),
    [
        (10 * MINUTE, 0, 10 * MINUTE),
        (10 * MINUTE + 1, 0, 0),
        (HOUR, HOUR - 10 * MINUTE, HOUR),
        (HOUR, HOUR - 10 * MINUTE - 1, 0),
        (5, -HOUR, 5),
        (-5, 0, 0),
    ],
)
def test_the_clock_of_an_idle_record_has_a_limit(
    timestamp_us: int, now_us: int, clock_us: int
) -> None:
    """A time more than the skew ahead of clock and worker moves nothing; none goes back."""
    partition = Partition()
    partition.commit(compute.idle_step(partition.state, NOW + now_us), NOW + timestamp_us)
    assert partition.state.clock_us == NOW + clock_us


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_borders_change_no_verdict(size: int) -> None:
    """The same log cut into other batches has the same verdicts, charges and identities."""
    events = [
        run("a", credits_micro=1), run("a", credits_micro=1), run("a", credits_micro=2), None,
        run("b", NOW + 4 * MINUTE), run("c", cached_tokens=1), run("a", NOW + 26 * HOUR), run("d"),
        run("e", NOW + 26 * HOUR), run("a", NOW + 26 * HOUR), run("f", NOW + 26 * HOUR),
        run("g", NOW + 26 * HOUR - 10 * MINUTE),
    ]  # fmt: skip
    times = [
        NOW,
        NOW,
        NOW + MINUTE,
        NOW,
        NOW + 12 * MINUTE,
        NOW,
        NOW + 26 * HOUR,
        NOW,
        NOW + 60 * DAY,
    ]
    times += [NOW + 26 * HOUR + 1] * 3
    whole, cut = Partition(), Partition()
    expected = whole.take_batch(batch_of(0, events, times), now_us=NOW + 26 * HOUR)
    steps = [
        cut.take_batch(
            batch_of(i, events[i : i + size], times[i : i + size]), now_us=NOW + 26 * HOUR
        )
        for i in range(0, len(events), size)
    ]
    assert [v for step in steps for v in verdicts(step)] == verdicts(expected)
    assert verdicts(expected) == [
        COUNTED, DUPLICATE, CONFLICT, Verdict.NULL_VALUE, COUNTED, Verdict.INCONSISTENT, COUNTED,
        Verdict.TOO_LATE, COUNTED, DUPLICATE, COUNTED, COUNTED,
    ]  # fmt: skip

    def money(some: list[Step]) -> list[tuple[int, str]]:
        return [(c["event_offset"], c["card"]) for step in some for c in charges(step)]

    assert money(steps) == money([expected])
    before, after = contents_of(whole.state), contents_of(cut.state)
    assert {**before, "link": 0} == {**after, "link": 0}
    assert whole.state.clock_us == cut.state.clock_us == NOW + 26 * HOUR + 1
