"""Which events are on time, late, too late or too early: each edge, on the microsecond."""

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Partition,
    cells,
    charges,
    rejects,
    run,
    verdicts,
)

from meterstream.schemas.journal import Section
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Policy,
)

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


@pytest.mark.parametrize(
    ("behind_us", "late"), [(10 * MINUTE - 1, False), (10 * MINUTE, True), (10 * MINUTE + 1, True)]
)
def test_a_minute_takes_events_until_its_grace_is_over(behind_us: int, late: bool) -> None:
    """From its end plus the grace on, on the clock at the event, a minute takes nothing more."""
    partition = Partition(clock_us=NOW)
    step = partition.take(run(at_us=NOW + 59 * SECOND), at_us=NOW + MINUTE + behind_us)
    assert verdicts(step) == [COUNTED]
    assert bool(cells(step)) is not late
    assert bool(cells(step, Section.LATE_MINUTES)) is late
    assert step.rows == (3 if late else 1)
    assert partition.state.live_cells == (0 if late else 1)


def test_whether_a_run_is_late_is_decided_at_its_own_offset() -> None:
    """The clock may pass between two runs of one minute and batch; only the second is late."""
    partition = Partition()
    step = partition.take(run("a"), run("b"), at_us=[NOW + 11 * MINUTE - 1, NOW + 11 * MINUTE])
    assert [start for start, _ in cells(step)] == [0]
    assert [start for start, _ in cells(step, Section.LATE_MINUTES)] == [0]
    assert [(c["event_offset"], c["cell"]) for c in charges(step)] == [(0, 0), (1, 1)]
    assert partition.state.live_cells == 0


@pytest.mark.parametrize(
    ("behind_us", "verdict"), [(DAY - 1, COUNTED), (DAY, COUNTED), (DAY + 1, Verdict.TOO_LATE)]
)
def test_events_are_taken_up_to_the_horizon(behind_us: int, verdict: Verdict) -> None:
    """An event exactly as old as the horizon counts; one microsecond older goes to the DLQ."""
    step = Partition(clock_us=NOW + behind_us).take(run(at_us=NOW))
    assert verdicts(step) == [verdict]
    if verdict is Verdict.TOO_LATE:
        detail = "time: older than the deduplication horizon"
        assert rejects(step) == [("events", 0, verdict, detail)]
        assert (step.counts, step.reasons) == ({"too_late": 1}, {})


@pytest.mark.parametrize(
    ("ahead_us", "verdict"),
    [(5 * MINUTE - 1, COUNTED), (5 * MINUTE, COUNTED), (5 * MINUTE + 1, Verdict.TIME_AHEAD)],
)
def test_events_are_taken_a_little_ahead(ahead_us: int, verdict: Verdict) -> None:
    """An event five minutes ahead of the clock counts; one microsecond more goes to the DLQ."""
    partition = Partition()
    step = partition.take(run(at_us=NOW + ahead_us))
    assert verdicts(step) == [verdict]
    if verdict is Verdict.TIME_AHEAD:
        assert rejects(step) == [
            ("events", 0, verdict, "time: too far ahead of the broker's clock")
        ]
        assert (step.counts, step.reasons) == ({"rejected": 1}, {"time_ahead": 1})
        assert partition.state.dedup_ids == 0


def test_a_backlog_is_on_time() -> None:
    """Events of three days ago that were written three days ago are neither late nor too late."""
    partition = Partition(clock_us=0)
    step = partition.take(
        run("a", NOW - 3 * DAY), run("b", NOW), at_us=[NOW - 3 * DAY, NOW], now_us=NOW + DAY
    )
    assert verdicts(step) == [COUNTED, COUNTED]
    assert cells(step, Section.LATE_MINUTES) == []
    assert [start for start, _ in cells(step)] == [-3 * 86_400, 0]
    assert partition.state.live_cells == 1


def test_a_log_time_years_ahead_moves_nothing() -> None:
    """A broker with a wrong year closes no window: its events count by the clock as it stands."""
    partition = Partition()
    step = partition.take(run("a"), run("b"), at_us=[NOW + 3650 * DAY, NOW + 1], now_us=NOW)
    assert verdicts(step) == [COUNTED, COUNTED]
    assert step.skewed_log_times == 1
    assert (step.header.clock_us, partition.state.clock_us) == (NOW + 1, NOW + 1)


@pytest.mark.parametrize(
    ("ahead_us", "clock_us"), [(10 * MINUTE, 10 * MINUTE), (10 * MINUTE + 1, 0)]
)
def test_the_workers_time_only_guards_the_clock(ahead_us: int, clock_us: int) -> None:
    """A log time moves the clock up to ten minutes ahead of the worker's time, and no further."""
    step = Partition().take(run(), at_us=NOW + ahead_us, now_us=NOW - DAY)
    assert step.header.clock_us == NOW + clock_us
    assert step.skewed_log_times == (0 if clock_us else 1)
    assert Partition().take(run(), at_us=NOW + DAY, now_us=NOW + DAY).header.clock_us == NOW + DAY


def test_a_longer_grace_opens_no_closed_minute() -> None:
    """A minute that has closed and left memory stays closed when a longer grace is set."""
    partition = Partition(Policy(1, grace_us=MINUTE))
    partition.take(run("a", credits_micro=5))
    partition.idle(NOW + 2 * MINUTE)
    assert partition.state.live_cells == 0
    longer = partition.restarted(Policy(1, grace_us=HOUR))
    step = longer.take(run("b", credits_micro=7), run("c", NOW + MINUTE, credits_micro=9))
    assert [(s, sums["credits_micro"]) for s, sums in cells(step, Section.LATE_MINUTES)] == [(0, 7)]
    assert [(s, sums["credits_micro"]) for s, sums in cells(step)] == [(60, 9)]


def test_a_longer_horizon_takes_nothing_that_was_forgotten() -> None:
    """What was older than the horizon stays too late when a longer one is set: its id is gone."""
    partition = Partition(Policy(1, horizon_us=DAY))
    partition.take(run("a"))
    partition.idle(NOW + 2 * DAY)
    assert partition.state.dedup_ids == 0
    longer = partition.restarted(Policy(1, horizon_us=7 * DAY))
    step = longer.take(run("a"), run("b", NOW + DAY - 1), run("c", NOW + DAY))
    assert verdicts(step) == [Verdict.TOO_LATE, Verdict.TOO_LATE, COUNTED]
    later = longer.take(run("d", NOW + DAY), at_us=NOW + 8 * DAY)
    assert verdicts(later) == [COUNTED]
