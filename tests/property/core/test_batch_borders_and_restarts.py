"""Where a batch ends and where a meter restarts makes no difference."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import CoreMeter, batches, contents_of
from tests.support.events import START_US, Mix, make_records, rate_card
from tests.support.model import HOUR_US, Record, Rules, run_model

from meterstream.streams.core import Entry, Policy, compute_step

NOW_US = START_US + 40 * HOUR_US
POLICY = Policy(4)
BUSY = Mix(resends=300, conflicts=100, late=200, too_late=50, gaps=100, sessions=200)

logs = st.builds(
    lambda seed, size, step_us: make_records(seed, size, mix=BUSY, step_us=step_us),
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.sampled_from((1_000, 20_000_000, 400_000_000)),
)
borders = st.lists(st.integers(1, 60), max_size=12)
a_few = settings(max_examples=share(20), deadline=None, suppress_health_check=list(HealthCheck))


def run(
    records: list[Record], cuts: list[int], restarts: list[str | None], *, idle: bool = False
) -> CoreMeter:
    """Return a meter that has taken the records, restarted after its batches as told."""
    meter = CoreMeter(POLICY, 0, clock_us=START_US)
    meter.step(None, NOW_US, [Entry(0, START_US, None, rate_card())])
    for i, batch in enumerate(batches(records, cuts)):
        meter.step(batch, NOW_US)
        how = restarts[i % len(restarts)] if restarts else None
        if how is not None:
            meter.restart(how)
        if idle:
            meter.idle(meter.state.clock_us)
    return meter


@given(logs, borders, borders)
@a_few
def test_borders_make_no_difference(
    records: list[Record], some: list[int], others: list[int]
) -> None:
    """Two meters that cut one log differently count the same, which is what the model counts."""
    expected = run_model(
        records, Rules(4), 0, now_us=NOW_US, clock_us=START_US, cards={0: [rate_card()]}
    )
    for cuts in (some, others):
        counted = run(records, cuts, []).reader.counted
        assert counted.verdicts == expected.verdicts
        assert counted.cells == expected.cells
        assert counted.charges == expected.charges
        assert counted.clock_us == expected.clock_us


ways = st.lists(st.sampled_from(("journal", "snapshot", "old", None)), min_size=1, max_size=6)


@given(logs, borders, ways)
@a_few
def test_restarts_make_no_difference(
    records: list[Record], cuts: list[int], restarts: list[str | None]
) -> None:
    """A meter that restarts, from its journal or a snapshot, writes the very same records."""
    steady = run(records, cuts, [])
    restarted = run(records, cuts, restarts)
    assert restarted.reader.counted == steady.reader.counted
    assert contents_of(restarted.state) == contents_of(steady.state)
    assert [header for _, _, header, _ in restarted.journal] == [
        header for _, _, header, _ in steady.journal
    ]


@given(logs, borders, st.sampled_from(("journal", "snapshot", "old")))
@a_few
def test_a_restored_state_is_the_state_that_was_lost(
    records: list[Record], cuts: list[int], how: str
) -> None:
    """What a meter restores equals what it knew, idle records and all."""
    meter = run(records, cuts, [], idle=True)
    before = contents_of(meter.state)
    meter.restart(how)
    assert contents_of(meter.state) == before


@given(logs, borders)
@a_few
def test_a_step_changes_nothing_until_it_is_applied(records: list[Record], cuts: list[int]) -> None:
    """Computing a step leaves the state as it was, so an outcome that is unknown costs nothing."""
    meter = run(records, cuts, [])
    before = contents_of(meter.state)
    more = [
        Record(meter.state.events_position + i, record.log_time_us, record.value)
        for i, record in enumerate(records)
    ]
    (batch,) = batches(more, [], start=meter.state.events_position)
    first = compute_step(meter.state, batch, now_us=NOW_US)
    again = compute_step(meter.state, batch, now_us=NOW_US)
    assert contents_of(meter.state) == before
    assert (first.header, first.value) == (again.header, again.value)
