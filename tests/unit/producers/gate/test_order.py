"""Which record of a limit holds: the newest by as_of, whatever order they come in."""

from uuid import UUID

import pytest
from tests.support.limit_states import (
    PARTITIONS,
    FedGate,
    Record,
    heartbeat,
    heartbeats,
    limit,
    loaded_gate,
    removed,
)

from meterstream.producers import UnreadableState
from meterstream.producers.gate.partition import LINEAGES_MAX

OTHER = UUID(int=8)
BLOCKED = limit(used=10, offset=9)
PARTITION = BLOCKED.partition


def test_an_older_state_never_unblocks() -> None:
    """A state that was decided before the one that is known changes nothing."""
    gate = loaded_gate(BLOCKED)
    gate.take(limit(offset=8), limit(offset=9), limit(offset=100, generation=0))
    assert not gate.check("team-1")
    gate.take(limit(offset=10))
    assert gate.check("team-1")


def test_a_removal_is_not_forgotten_by_another_one() -> None:
    """A limit that is removed twice stays removed as of the later one."""
    gate = loaded_gate(BLOCKED)
    gate.take(removed(BLOCKED), removed(BLOCKED), limit(used=10, offset=9))
    assert gate.check("team-1").limits == ()


def test_a_removed_limit_applies_no_longer() -> None:
    """A tombstone removes the limit; one that is set anew afterwards applies."""
    gate = loaded_gate(BLOCKED, limit(limit_id="other"))
    gate.take(removed(BLOCKED))
    assert [one.limit_id for one in gate.check("team-1").limits] == ["other"]
    gate.take(limit(used=10, offset=12))
    assert not gate.check("team-1")


def test_a_state_from_before_a_removal_does_not_come_back() -> None:
    """Neither one that was known, nor one that the last heartbeat had passed."""
    gate = loaded_gate(BLOCKED)
    gate.take(heartbeat(PARTITION, 20), removed(BLOCKED))
    gate.take(BLOCKED, limit(used=10, offset=15), limit(used=10, offset=20))
    assert gate.check("team-1").limits == ()
    gate.take(limit(used=10, offset=21))
    assert not gate.check("team-1")


def test_an_older_heartbeat_is_ignored() -> None:
    """The age follows the newest heartbeat, and no clock goes back."""
    gate = loaded_gate()
    gate.take(heartbeats(5, age_s=1), heartbeats(4, age_s=0), heartbeats(5, age_s=100))
    age_s = gate.check("team-1").age_s
    assert age_s is not None
    assert age_s < 90
    assert gate.metric("ignored_total", reason="old") == PARTITIONS


def test_another_events_topic_counts_once_a_later_heartbeat_names_it() -> None:
    """States of a topic that was made again wait for its heartbeat, and then nothing else holds."""
    gate = loaded_gate(BLOCKED, limit(limit_id="gone", used=10, offset=9))
    anew = limit(used=1, offset=1, topic_id=OTHER)
    gate.take(anew)
    assert len(gate.check("team-1").refused_by) == 2
    gate.take(heartbeat(PARTITION, 1, topic_id=OTHER, age_s=3600))
    assert len(gate.check("team-1").refused_by) == 2
    gate.take(heartbeat(PARTITION, 2, topic_id=OTHER, age_s=-1))
    decision = gate.check("team-1")
    assert decision
    assert [(one.limit_id, one.used) for one in decision.limits] == [("cap", 1)]
    gate.take(limit(used=10, offset=99), heartbeat(PARTITION, 99))
    assert gate.check("team-1")


def test_what_a_new_generation_does_not_tell_was_removed() -> None:
    """Once it has told all limits by its clock, those that it did not tell are gone; not before."""
    gate = loaded_gate(BLOCKED, limit(limit_id="gone", used=10, offset=9))
    gate.take(heartbeat(PARTITION, 10, generation=2))
    gate.take(limit(used=10, offset=11, generation=2), heartbeat(PARTITION, 11, generation=2))
    assert len(gate.check("team-1").refused_by) == 2
    gate.take(heartbeat(PARTITION, 12, generation=2, age_s=-61))
    assert [one.limit_id for one in gate.check("team-1").limits] == ["cap"]
    gate.take(limit(limit_id="gone", used=10, offset=99), heartbeat(PARTITION, 13, generation=2))
    assert [one.limit_id for one in gate.check("team-1").limits] == ["cap"]


def test_a_generation_that_has_not_told_all_limits_takes_none_away() -> None:
    """However long that takes by its clock; once all are told the others go as they do else."""
    gate = loaded_gate(BLOCKED, limit(limit_id="gone", used=10, offset=9))
    gate.take(heartbeat(PARTITION, 10, generation=2, all_told=False))
    gate.take(limit(used=10, offset=11, generation=2))
    gate.take(heartbeat(PARTITION, 11, generation=2, age_s=-600, all_told=False))
    gate.take(heartbeat(PARTITION, 12, generation=2, age_s=-601))
    assert len(gate.check("team-1").refused_by) == 2
    gate.take(heartbeat(PARTITION, 13, generation=2, age_s=-661))
    assert [one.limit_id for one in gate.check("team-1").limits] == ["cap"]


def test_states_of_many_events_topics_take_no_more_room() -> None:
    """Only the last few topics are remembered, and the one that counts always is."""
    gate = loaded_gate(BLOCKED)
    for number in range(3 * LINEAGES_MAX):
        gate.take(limit(offset=1, topic_id=UUID(int=100 + number)))
    assert not gate.check("team-1")
    gate.take(heartbeat(PARTITION, 2, topic_id=UUID(int=100), age_s=-1))
    assert gate.check("team-1").limits == ()


def test_a_log_that_is_read_again_takes_nothing_away_meanwhile() -> None:
    """A removal that is followed by a newer state does not unblock while the log is read again."""
    before = limit(used=10, offset=3)
    log = [before, removed(before), BLOCKED, *heartbeats(9)]
    gate = loaded_gate(log)
    gate.begin_anew()
    for record in log:
        gate.take(record)
        assert not gate.check("team-1")
    gate.reach_end()
    assert not gate.check("team-1")


def test_a_removal_holds_though_an_older_state_stands_behind_it() -> None:
    """At the end of a log that is read again a stale state does not keep what was removed."""
    gate = loaded_gate(BLOCKED)
    gate.begin_anew()
    gate.take(BLOCKED, removed(BLOCKED), limit(used=10, offset=2))
    gate.reach_end()
    assert gate.check("team-1").limits == ()


def test_a_limit_may_get_another_subject() -> None:
    """A new version that is about somebody else applies there, and no longer where it did."""
    gate = loaded_gate(limit(used=10, subject="user", subject_id="ada"))
    gate.take(limit(used=10, offset=2, subject="agent", subject_id="writer"))
    assert gate.check("team-1", user="ada")
    assert not gate.check("team-1", agent="writer")
    gate.take(limit(used=10, offset=3, measure="tokens"))
    assert gate.check("team-1", agent="writer").refused_by[0].measure == "tokens"
    assert gate.metric("states") == 1


def _changed(record: Record, old: bytes, new: bytes) -> Record:
    assert record.value is not None
    assert old in record.value
    return record._replace(value=record.value.replace(old, new))


@pytest.mark.parametrize(
    "record",
    [
        BLOCKED._replace(value=b"{"),
        BLOCKED._replace(value=b"\xff"),
        BLOCKED._replace(value=b"[]"),
        _changed(BLOCKED, b'"used":10', b'"used":1.5'),
        _changed(BLOCKED, b'"used":10', b'"spent":10'),
        _changed(BLOCKED, b'"team-1"', b"null"),
        _changed(BLOCKED, b'"runs"', b'"steps"'),
        _changed(BLOCKED, b'"runs"', b'["runs"]'),
        _changed(BLOCKED, b'"hard"', b'"firm"'),
        _changed(BLOCKED, b'"day"', b'"era"'),
        _changed(BLOCKED, b'"subject_id":null', b'"subject_id":"x"'),
        _changed(BLOCKED, b'"generation":1', b'"generation":"1"'),
        _changed(BLOCKED, str(OTHER).replace("8", "7").encode(), b""),
        _changed(BLOCKED, f'"partition":{PARTITION}'.encode(), b'"partition":99'),
        BLOCKED._replace(partition=(PARTITION + 1) % PARTITIONS),
        BLOCKED._replace(key=b'["heartbeat",0]'),
    ],
)
def test_what_breaks_the_contract_is_told_and_changes_nothing(record: Record) -> None:
    """A record that cannot be read raises, names no value of its own, and the known state holds."""
    gate = loaded_gate(BLOCKED)
    with pytest.raises(UnreadableState) as caught:
        gate.take(record)
    assert "team-1" not in str(caught.value)
    assert not gate.check("team-1")


def test_fields_that_are_not_known_are_passed_over() -> None:
    """The contract may get fields, and owners that a gate does not serve."""
    gate = FedGate()
    gate.take(
        _changed(BLOCKED, b'"used":10', b'"used":10,"new":{"a":1}'),
        BLOCKED._replace(key=b'["planet","p","cap"]'),
        heartbeats(9),
    )
    gate.reach_end()
    assert not gate.check("team-1")
    assert gate.metric("ignored_total", reason="other_owner") == 1
