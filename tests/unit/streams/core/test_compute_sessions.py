"""Sessions in a step: they follow their counted events."""

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Partition,
    session,
)

from meterstream.schemas.verdicts import Verdict

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


def test_sessions_follow_their_events() -> None:
    """Counted session events change their session, over records and within one."""
    partition = Partition()
    partition.take(session("started", "a", application="x"), session("heartbeat", "b"))
    step = partition.take(
        session("heartbeat", "c", NOW + 1),
        session("heartbeat", "c", NOW + 1),
        session("heartbeat", "d", NOW + HOUR),
        session("ended", "e", session_id="other"),
        session("heartbeat", "f", session_id="third", nonsense=1),
    )
    assert [(s.session_id, s.heartbeats, s.status) for s in step.changes.sessions] == [
        ("s", 2, "active"),
        ("other", 0, "completed"),
    ]
    assert partition.state.sessions["team", "s"].last_seen_us == NOW + 1
    assert set(partition.state.sessions) == {("team", "s"), ("team", "other")}


@pytest.mark.parametrize("steps", [[], [HOUR], [23 * HOUR], [DAY - 1], [DAY - MINUTE, DAY - 1]])
def test_when_a_session_is_forgotten_does_not_depend_on_records(steps: list[int]) -> None:
    """A session that ended a horizon ago begins anew, however the log is cut before."""
    partition = Partition()
    partition.take(session("started", "a", application="x"), session("ended", "b"))
    for step in steps:
        partition.idle(NOW + step)
    partition.take(session("heartbeat", "c", NOW + 1), at_us=NOW + DAY - 1)
    found = partition.state.sessions["team", "s"]
    assert (found.status, found.heartbeats, found.application) == ("completed", 1, "x")
    partition.take(session("heartbeat", "d", NOW + 2), at_us=NOW + DAY)
    assert partition.state.sessions["team", "s"].heartbeats == 2
    partition.take(session("heartbeat", "e", NOW + DAY), at_us=NOW + DAY + 2)
    found = partition.state.sessions["team", "s"]
    assert (found.status, found.heartbeats, found.application) == ("active", 1, "")
