"""What a publisher gathers from a journal: the last state of each limit, and crossings at once."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.journal import DAY_US
from tests.support.limits import DAY_1_US, LimitJournal, crossing, limit_row, removed

from meterstream.schemas.journal import ChainReader
from meterstream.schemas.thresholds import LimitHeartbeat, LimitState
from meterstream.streams.publisher.pending import Pending
from meterstream.streams.publisher.reading import Reading, SlotBroken

DAY_2_US = DAY_1_US + DAY_US
Told = dict[str, Any]


def read(journal: LimitJournal, max_records: int = 100) -> Reading:
    """Return what reads a journal from its beginning, before its first record."""
    pending = Pending(0, "/t", max_records)
    return Reading("journal", 0, chain=ChainReader(), start=0, pending=pending)


def take(reading: Reading, journal: LimitJournal) -> None:
    """Take the records that were not taken yet."""
    for entry in journal.log[reading.next_offset :]:
        reading.take(entry)  # type: ignore[arg-type]


def states(reading: Reading) -> dict[str, Told | None]:
    """Return what would be published of states now, by key."""
    place = reading.place()
    assert place is not None
    found = {}
    for key, value in reading.pending.states.records(place.link.clock_us):
        if value is not None:
            LimitState.model_validate_json(value)
        found[key.decode()] = None if value is None else json.loads(value)
    return found


def is_anything(reading: Reading) -> bool:
    """Tell whether there is something to publish."""
    return bool(reading.pending)


def is_urgent(reading: Reading) -> bool:
    """Tell whether it is published at once."""
    return reading.pending.is_urgent


def test_the_last_state_holds() -> None:
    """Of a limit that changed in several records one state is published, the last."""
    journal = LimitJournal()
    reading = read(journal)
    for used in (10, 20):
        journal.step([limit_row(used=used), limit_row("l-2", used=used + 1)])
    journal.step([limit_row(used=30), limit_row(used=1000, blocked=1, reached_permille=1000)])
    take(reading, journal)
    found = states(reading)
    assert list(found) == ['["team","team-1","l-1"]', '["team","team-1","l-2"]']
    first, second = found.values()
    assert first is not None
    assert second is not None
    assert (first["used"], first["state"], first["reached_permille"]) == (1000, "blocked", 1000)
    assert (second["used"], second["state"], second["as_of"]["journal_offset"]) == (
        21, "admitting", 2,
    )  # fmt: skip
    assert first["as_of"]["journal_offset"] == 3, "each is as of its own record"


def test_rows_of_other_windows_are_skipped() -> None:
    """A state is published only of the window that holds the clock after its record."""
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(used=1), limit_row("old", DAY_1_US - DAY_US), limit_row("new")])
    journal.step([limit_row("new", DAY_2_US)], clock_us=DAY_2_US - 1)
    take(reading, journal)
    assert [json.loads(key)[2] for key in states(reading)] == ["l-1", "new"]
    journal.idle(DAY_2_US)
    take(reading, journal)
    assert states(reading) == {}, "the clock left their window while they waited"
    journal.step([limit_row(used=5), limit_row(start_us=DAY_2_US, used=6)])
    take(reading, journal)
    (state,) = states(reading).values()
    assert state is not None
    assert state["used"] == 6


def test_a_balance_has_no_end() -> None:
    """The state of a balance is published whatever the clock says, without an end."""
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(window="balance", measure="credits", window_end=0, used=-5)])
    take(reading, journal)
    (state,) = states(reading).values()
    assert state is not None
    assert "window_end" not in state
    assert state["used"] == -5


def test_removed_limits() -> None:
    """A limit that is removed leaves a tombstone, unless the same record sets it anew."""
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(used=1), limit_row("l-2", used=1)])
    journal.step(
        [limit_row(removed=1), limit_row("old", DAY_1_US - DAY_US, removed=1)],
        control=[removed(), removed("never stood")],
    )
    journal.step([limit_row("l-2", limit_version=3)], control=[removed("l-2")])
    take(reading, journal)
    found = {json.loads(key)[2]: state for key, state in states(reading).items()}
    anew = found.pop("l-2")
    assert found == {"l-1": None, "old": None, "never stood": None}
    assert anew is not None
    assert anew["limit_version"] == 3


def test_only_crossings_hurry() -> None:
    """A crossing is published at once, states and dead letters wait."""
    journal = LimitJournal()
    reading = read(journal)
    take(reading, journal)
    assert not is_anything(reading)
    journal.step([limit_row(used=1)], rejects=[["events", 0, 35, "why"]])
    take(reading, journal)
    assert is_anything(reading)
    assert not is_urgent(reading)
    journal.step(crossings=[crossing("reached")])
    take(reading, journal)
    assert is_urgent(reading)
    reading.pending.clear()
    assert not is_anything(reading)
    assert not is_urgent(reading)


def test_what_waits_has_an_end() -> None:
    """So many records with something to publish are published without waiting for more."""
    journal = LimitJournal()
    reading = read(journal, max_records=2)
    journal.step([limit_row(used=1)])
    take(reading, journal)
    assert not is_urgent(reading)
    journal.step([limit_row(used=2)])
    take(reading, journal)
    assert is_urgent(reading)


def test_heartbeats_tell_up_to_where() -> None:
    """A heartbeat names the last valid record and the chain's clock, in each generation."""
    journal = LimitJournal()
    reading = read(journal)
    assert reading.place() is None, "nothing is known before the first record"
    take(reading, journal)
    told = []
    acts: list[Callable[[], object]] = [
        lambda: journal.idle(DAY_1_US + 7_000_000),
        journal.new_generation,
    ]
    for act in acts:
        act()
        take(reading, journal)
        place = reading.place()
        assert place is not None
        key, value = place.heartbeat()
        assert key == b'["heartbeat",0]'
        told.append(LimitHeartbeat.model_validate_json(value))
    assert [(one.as_of.generation, one.as_of.journal_offset) for one in told] == [(1, 1), (2, 2)]
    assert [one.clock.second for one in told] == [7, 7]


def test_a_new_generation_does_not_take_over_states() -> None:
    """A state that waits while a generation begins stays one of the generation before it.

    Readers take the first states of a generation for all that there are.
    """
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(used=1)])
    journal.new_generation()
    take(reading, journal)
    (state,) = states(reading).values()
    assert state is not None
    assert state["as_of"]["generation"] == 1
    place = reading.place()
    assert place is not None
    assert place.link.generation == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda journal: journal.step(crossings=[crossing("later")]), "newer release"),
        (lambda journal: journal.step(crossings=[{"kind": "blocked"}]), "CROSSINGS .* offset 2"),
        (lambda journal: journal.step(control=[[1]]), "limits cannot be read"),
        (lambda journal: journal.step(rejects=[[1]]), "REJECTS"),
        (lambda journal: journal.step(rejects=[["events", 0, 9, ""]]), "verdict 9, .* newer rel"),
        (lambda journal: journal.step(rejects=[["other", 0, 35, ""]]), "'other' by verdict 35"),
    ],
)
def test_a_record_that_cannot_be_read(
    spoil: Callable[[LimitJournal], object], message: str
) -> None:
    """Nothing is taken of it, what was taken before stays, and the link does not pass it."""
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(used=1)])
    take(reading, journal)
    link = reading.link
    spoil(journal)
    with pytest.raises(SlotBroken, match=message):
        take(reading, journal)
    assert reading.link == link
    assert len(states(reading)) == 1
    assert not reading.pending.thresholds


def test_behind_a_break() -> None:
    """Behind a broken record nothing is taken before a later genesis, and the link stays."""
    journal = LimitJournal()
    reading = read(journal)
    journal.step([limit_row(used=1)])
    take(reading, journal)
    link = reading.link
    journal.step([limit_row(used=2)])
    journal.log[-1] = replace(journal.log[-1], content=b"other")
    journal.step([limit_row(used=3)])
    take(reading, journal)
    assert reading.link == link
    (state,) = states(reading).values()
    assert state is not None
    assert state["used"] == 1
    with pytest.raises(SlotBroken, match="published up to offset 1"):
        reading.at_end()
