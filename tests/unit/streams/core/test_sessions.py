"""Sessions as they stand after their events, and when they leave memory."""

from dataclasses import replace
from typing import Any

import pytest
from tests.support.craft import DAY, HOUR, MINUTE, NOW, Json, encode, session

from meterstream.schemas.session import SESSION_ENDED
from meterstream.streams.core.decode import AnyEvent, decode_event
from meterstream.streams.core.sessions import SESSION_KEPT_US, Session, follow, is_forgotten

START = {"application": "notebook", "release": "1.2", "user_id": "u", "machine_size": "large"}


def event(kind: str, **data: Any) -> AnyEvent:
    """Return a decoded session event."""
    return decode_event(encode(session(kind, "e", **data)))


def after(*events: tuple[AnyEvent, int]) -> Session:
    """Return the session after events at times in minutes after NOW."""
    found: Session | None = None
    for one, minutes in events:
        found = follow(found, one, NOW + minutes * MINUTE, NOW + HOUR + minutes * MINUTE)
    assert found is not None
    return found


def test_a_start_says_what_runs() -> None:
    """A session that has started is active, since its start, and says all that its start says."""
    assert after(
        (event("started", **START, product="p", agent_id="a", project_id="j"), 3)
    ) == Session(
        team_id="team",
        session_id="s",
        user_id="u",
        agent_id="a",
        project_id="j",
        product="p",
        application="notebook",
        machine_size="large",
        release="1.2",
        status="active",
        started_us=NOW + 3 * MINUTE,
        last_seen_us=NOW + 3 * MINUTE,
        heartbeats=0,
        start_seen=True,
        charged_us=NOW + HOUR + 3 * MINUTE,
        credits_micro=0,
    )


def test_a_start_without_a_release_has_none() -> None:
    """What was not named is empty."""
    found = after((event("started", application="x"), 0))
    assert (found.release, found.user_id, found.machine_size) == ("", "", "")


def test_heartbeats_are_counted_and_move_the_last_sign() -> None:
    """Each heartbeat counts one; the last sign of life is the latest, not the last to arrive."""
    found = after(
        (event("started", **START), 0),
        (event("heartbeat"), 5),
        (event("heartbeat"), 3),
    )
    assert (found.heartbeats, found.last_seen_us, found.started_us) == (2, NOW + 5 * MINUTE, NOW)
    assert (found.status, found.application, found.machine_size) == ("active", "notebook", "large")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end_says_how(status: str) -> None:
    """A session that has ended has the status its end names, and keeps it when others follow."""
    found = after(
        (event("started", **START), 0),
        (event("ended", status=status), 9),
        (event("heartbeat"), 8),
        (event("started", **START), 1),
    )
    assert (found.status, found.last_seen_us, found.heartbeats) == (status, NOW + 9 * MINUTE, 1)


def test_the_type_of_an_end_has_a_default() -> None:
    """An end that names no status is a completed one."""
    assert SESSION_ENDED.endswith("ended.v1")
    assert after((event("ended"), 0)).status == "completed"


ORDERS = [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)]


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_arrival_makes_no_difference(order: tuple[int, ...]) -> None:
    """Start, heartbeats and end in any order give the same session."""
    events = [
        (event("started", **START), 1),
        (event("heartbeat"), 4),
        (event("heartbeat"), 6),
        (event("ended", status="failed"), 8),
    ]
    found = after(*(events[i] for i in order))
    assert found == after(*events)
    assert (found.started_us, found.last_seen_us) == (NOW + MINUTE, NOW + 8 * MINUTE)
    assert (found.status, found.heartbeats, found.start_seen) == ("failed", 2, True)


def test_without_a_start_the_first_sign_is_one() -> None:
    """Until its start is seen, a session began with its earliest event; its start corrects that."""
    found = after((event("heartbeat"), 5), (event("heartbeat"), 3), (event("heartbeat"), 4))
    assert (found.started_us, found.start_seen, found.application) == (NOW + 3 * MINUTE, False, "")
    assert (
        follow(found, event("started", **START), NOW + 4 * MINUTE, NOW).started_us
        == NOW + 4 * MINUTE
    )


def test_of_two_starts_the_earlier_holds() -> None:
    """A start that is sent anew under another id does not move the beginning."""
    one, other = (event("started", **START), 2), (event("started", **START), 1)
    assert after(one, other).started_us == after(other, one).started_us == NOW + MINUTE


def test_a_name_that_is_not_repeated_stays() -> None:
    """An event that names nothing takes nothing away; one that names another changes it."""
    found = after(
        (event("started", **START, product="p", agent_id="a", project_id="j"), 0),
        (event("heartbeat"), 1),
        (
            event(
                "heartbeat",
                user_id="v",
                machine_size="small",
                product="q",
                agent_id="b",
                project_id="k",
            ),
            2,
        ),
    )
    assert (found.user_id, found.machine_size, found.product) == ("v", "small", "q")
    assert (found.agent_id, found.project_id) == ("b", "k")
    kept = after((event("heartbeat", user_id="v"), 0), (event("heartbeat"), 1))
    assert kept.user_id == "v"


def test_a_session_survives_as_a_row() -> None:
    """A row gives back the very session, whether its start was seen or not."""
    for found in (after((event("started", **START), 0)), after((event("heartbeat"), 0))):
        row: Json = found.to_row()
        assert Session.from_row(row) == found
        assert "start_seen" not in row
        assert row["started_at"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert found.key == ("team", "s")


def test_a_session_is_forgotten_at_its_time() -> None:
    """One without a sign of life for 35 days, or that ended a horizon ago, is gone, not before."""
    active = after((event("started", **START), 0))
    assert SESSION_KEPT_US == 35 * DAY
    assert not is_forgotten(active, NOW + 35 * DAY - 1, HOUR)
    assert is_forgotten(active, NOW + 35 * DAY, HOUR)
    for status in ("completed", "failed", "cancelled"):
        ended = replace(active, status=status)
        assert not is_forgotten(ended, NOW + HOUR - 1, HOUR)
        assert is_forgotten(ended, NOW + HOUR, HOUR)
