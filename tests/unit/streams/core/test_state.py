"""The state of a partition: it changes by valid records alone, and forgets by the clock."""

import pytest
from tests.support.craft import DAY, HOUR, MINUTE, NOW, Partition, run, session

from meterstream.streams.core import PartitionState, Policy, apply_record, idle_step


def test_a_state_measures_itself() -> None:
    """Live cells, ids and their bytes are those that are kept."""
    partition = Partition()
    partition.take(run("a"), run("b", user_id="u"), run("b", user_id="u"), session("heartbeat"))
    state = partition.state
    assert (state.live_cells, state.dedup_ids) == (2, 3)
    assert state.dedup_bytes == sum(era.filter.nbytes for era in state.dedup._eras) + 3 * 20
    assert (state.events_position, state.clock_us) == (4, NOW)


def test_cells_leave_memory_when_the_clock_has_closed_them() -> None:
    """With the last cell the last open window is gone, at the very microsecond."""
    partition = Partition()
    partition.take(run("a"), run("b", NOW + MINUTE))
    partition.idle(NOW + 11 * MINUTE - 1)
    assert partition.state.live_cells == 2
    partition.idle(NOW + 11 * MINUTE)
    assert partition.state.live_cells == 1
    partition.idle(NOW + 12 * MINUTE)
    assert partition.state.live_cells == 0


def test_ids_leave_memory_when_they_expire() -> None:
    """Idle records let the clock forget as events do."""
    partition = Partition()
    partition.take(run("a"))
    partition.idle(NOW + 26 * HOUR - 1)
    assert partition.state.dedup_ids == 1
    partition.idle(NOW + 26 * HOUR)
    assert (partition.state.dedup_ids, partition.state.dedup_bytes) == (0, 0)


@pytest.mark.parametrize(("kind", "kept_us"), [("heartbeat", 35 * DAY), ("ended", DAY)])
def test_sessions_leave_memory(kind: str, kept_us: int) -> None:
    """A forgotten session is dropped when the clock has moved a minute since the last look."""
    partition = Partition()
    partition.take(session(kind))
    partition.idle(NOW + kept_us - 1)
    assert len(partition.state.sessions) == 1
    partition.idle(NOW + kept_us - 1 + MINUTE - 1)
    assert len(partition.state.sessions) == 1
    partition.idle(NOW + kept_us - 1 + MINUTE)
    assert len(partition.state.sessions) == 0


def test_sessions_that_live_are_kept_when_others_go() -> None:
    """Each session is kept by its own last sign of life."""
    partition = Partition()
    partition.take(
        session("ended", "a"), session("ended", "b", NOW + HOUR, session_id="t"), at_us=NOW + HOUR
    )
    partition.take(session("heartbeat", "c", session_id="u"))
    partition.idle(NOW + DAY + MINUTE)
    assert sorted(key[1] for key in partition.state.sessions) == ["t", "u"]


def test_what_was_closed_stays_closed() -> None:
    """The marks of closed minutes and forgotten ids follow the clock and never go back."""
    partition = Partition(Policy(1, grace_us=MINUTE, horizon_us=HOUR))
    assert (partition.state.closed_us, partition.state.ids_since_us) == (NOW - MINUTE, NOW - HOUR)
    partition.idle(NOW + 5)
    assert (partition.state.closed_us, partition.state.ids_since_us) == (
        NOW + 5 - MINUTE,
        NOW + 5 - HOUR,
    )
    longer = partition.restarted(Policy(1, grace_us=HOUR, horizon_us=DAY))
    assert (longer.state.closed_us, longer.state.ids_since_us) == (NOW + 5 - MINUTE, NOW + 5 - HOUR)
    longer.idle(NOW + HOUR - MINUTE)
    assert (longer.state.closed_us, longer.state.ids_since_us) == (NOW + 5 - MINUTE, NOW + 5 - HOUR)
    longer.idle(NOW + DAY)
    assert (longer.state.closed_us, longer.state.ids_since_us) == (
        NOW + DAY - HOUR,
        NOW,
    )
    shorter = longer.restarted(Policy(1, grace_us=0, horizon_us=HOUR))
    assert (shorter.state.closed_us, shorter.state.ids_since_us) == (
        NOW + DAY - HOUR,  # by the records so far
        NOW + DAY - HOUR,
    )
    shorter.idle(NOW + DAY)
    assert shorter.state.closed_us == NOW + DAY


def test_a_record_closes_minutes_by_its_writers_grace() -> None:
    """Two meters with other graces have the same minutes closed after the same records."""
    writer = Partition(Policy(1, grace_us=MINUTE))
    writer.take(run("a"))
    writer.idle(NOW + 2 * MINUTE)
    assert {header.grace_seconds for _, _, header, _ in writer.journal} == {60}
    state: PartitionState | None = None
    for offset, at_us, header, value in writer.journal:
        state = apply_record(Policy(1, grace_us=HOUR), 0, state, offset, at_us, header, value)
    assert state is not None
    assert (state.closed_us, state.live_cells) == (writer.state.closed_us, 0)
    assert idle_step(state, NOW).header.grace_seconds == 3600
