"""Limits are told in portions where a record could not hold them all."""

import pytest
from tests.support.core_runner import CoreMeter, read_table
from tests.support.craft import DAY, HOUR, NOW, Json, batch_of, entries, envelope, run

from meterstream.schemas.journal import MalformedRecord, Section, unpack_sections
from meterstream.streams.backlog import Backlog
from meterstream.streams.core import Entry, Policy, Step, compute_step, next_batch
from meterstream.streams.core.telling import Telling
from meterstream.streams.fitting import Waiting, compute_fitting
from meterstream.streams.journal import RecordTooLarge

USERS = [f"u-{i:02}" for i in range(12)]


def limit_of(user: str) -> Json:
    """Return a hard limit of one run a day."""
    data = {
        "team_id": "team", "limit_id": user, "version": 1, "subject": "user", "subject_id": user,
        "measure": "runs", "window": "day", "amount": 1, "enforcement": "hard",
    }  # fmt: skip
    return envelope("limit.set", f"l-{user}", NOW, data)


def control() -> list[Entry]:
    """Return a limit of each user, and a grant that gives the team an account."""
    grant = {
        "team_id": "team", "grant_id": "g", "kind": "funded", "amount_micro": 5, "priority": 100
    }  # fmt: skip
    return entries(*map(limit_of, USERS), envelope("credits.granted", "g", NOW, grant))


def told(step: Step) -> list[str]:
    """Return the limits whose state a step tells, in its order."""
    sections = unpack_sections(step.value)
    if Section.LIMIT_STATES not in sections:
        return []
    return [row["limit_id"] for row in read_table(sections[Section.LIMIT_STATES])]


def blocked_meter() -> CoreMeter:
    """Return a meter in which every user has come to the limit of the day."""
    meter = CoreMeter(Policy(1), 0, clock_us=NOW)
    meter.step(None, NOW, control=control())
    runs = [run(f"r-{i}", NOW, user_id=user) for i, user in enumerate(USERS)]
    meter.step(batch_of(0, runs, [NOW] * len(runs)), NOW)
    return meter


def fitting(meter: CoreMeter, max_bytes: int) -> Step:
    """Return the step of a meter that has nothing to decide, as its worker computes it."""
    step, events = compute_fitting(
        meter.state,
        None,
        Waiting([], meter.state.catalog_position),
        Waiting([], meter.state.control_position),
        backlog=Backlog(1, 1),
        max_bytes=max_bytes,
        now_us=meter.state.clock_us,
    )
    assert events == 0
    return step


def pass_midnight(meter: CoreMeter) -> None:
    """Let the clock come to the next day, of which nothing is told yet."""
    meter.idle(NOW + DAY)


def test_a_day_that_begins_is_told_in_portions() -> None:
    """Each limit is told once, in the order of the keys, and nothing is due then."""
    meter = blocked_meter()
    pass_midnight(meter)
    steps = []
    while meter.state.is_due:
        steps.append(meter.step(None, NOW + DAY, portion=5))
        meter.restart("journal")
    assert [told(step) for step in steps] == [USERS[:5], USERS[5:10], USERS[10:]]
    assert meter.state.telling is None


def test_a_new_generation_tells_balances_among_the_limits() -> None:
    """They count as one of what a record tells, before the limits of their team."""
    meter = CoreMeter(Policy(1), 0, clock_us=NOW)
    meter.step(None, NOW, control=control())
    meter.state.is_untold = True
    steps = []
    while meter.state.is_due:
        steps.append(meter.step(None, NOW, portion=8))
    assert [sorted(told(step)) for step in steps] == [["credits", *USERS[:7]], USERS[7:]]


def test_no_window_begins_while_limits_are_left_to_be_told_of_the_last() -> None:
    """Events of the next day wait; those of this one do not."""
    meter = blocked_meter()
    pass_midnight(meter)
    meter.step(None, NOW + DAY, portion=5)
    at = meter.state.events_position
    now = batch_of(at, [run("n-1", NOW + DAY)], [NOW + DAY + HOUR])
    later = batch_of(at, [run("n-2", NOW + DAY)], [NOW + 2 * DAY])
    assert next_batch(meter.state, now) == (now, None)
    nothing, rest = next_batch(meter.state, later)
    assert (nothing.start, nothing.end, rest) == (at, at, later)
    with pytest.raises(ValueError, match="not all limits are told"):
        compute_step(meter.state, later, now_us=NOW + 2 * DAY)
    meter.step(nothing, NOW + DAY)
    assert next_batch(meter.state, later) == (later, None)


def test_a_record_that_would_be_too_large_tells_fewer_limits() -> None:
    """So it needs no more room than one of them, and the others follow."""
    meter = blocked_meter()
    pass_midnight(meter)
    room = len(compute_step(meter.state, None, now_us=NOW + DAY).value) * 2 // 3
    found: list[str] = []
    while meter.state.is_due:
        step = fitting(meter, room)
        assert len(step.value) <= room
        meter.commit(step, NOW + DAY)
        found += told(step)
    assert found == USERS
    meter.idle(NOW + 2 * DAY)
    with pytest.raises(RecordTooLarge, match="METERSTREAM_JOURNAL_MAX_BYTES"):
        fitting(meter, 100)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"behind_us": 1, "upto": ["a"]}'])
def test_what_is_told_must_be_readable(text: bytes) -> None:
    """A record that does not say which limits are told stops its reader."""
    with pytest.raises(MalformedRecord, match="which limits are told"):
        Telling.decode(text)
