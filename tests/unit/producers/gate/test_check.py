"""What a gate answers, from what it was told."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.limit_states import (
    FedGate,
    as_of,
    heartbeats,
    limit,
    loaded_gate,
)

from meterstream.schemas.partitions import partition_of

SUBJECTS = ("user", "agent", "project", "feature")


def test_without_limits_everything_is_admitted() -> None:
    """A team of which nothing is told is admitted, and its knowledge has an age."""
    decision = loaded_gate().check("nobody")
    assert decision
    assert (decision.rule, decision.limits, decision.left("runs")) == ("within_limits", (), None)
    assert decision.age_s is not None
    assert decision.age_s < 30


def test_each_subject_has_its_own_limits() -> None:
    """A limit applies to its own user, agent, project or feature of its own team, and no other."""
    gate = loaded_gate(
        *(limit(limit_id=kind, subject=kind, subject_id="x", used=10) for kind in SUBJECTS)
    )
    assert gate.check("team-1")
    assert gate.check("team-2", *["x"] * 4)
    for number, kind in enumerate(SUBJECTS):
        told: list[str | None] = [None] * 4
        told[number] = "x"
        decision = gate.check("team-1", *told)
        assert not decision
        assert decision.rule == "blocked"
        assert [one.limit_id for one in decision.refused_by] == [kind]
        told[number] = "y"
        assert gate.check("team-1", *told)


def test_all_that_refuse_are_told_in_order() -> None:
    """Limits come team, user, agent, project, feature, then by id; the blocking ones are marked."""
    gate = loaded_gate(
        limit(limit_id="z", used=10),
        limit(limit_id="a"),
        limit(limit_id="b", subject="feature", subject_id="f", used=12),
        limit(limit_id="c", subject="user", subject_id="u"),
    )
    decision = gate.check("team-1", user="u", feature="f")
    assert [one.limit_id for one in decision.limits] == ["a", "z", "c", "b"]
    assert [one.limit_id for one in decision.refused_by] == ["z", "b"]
    assert [one.left for one in decision.limits] == [10, 0, 10, 0]


def test_it_tells_what_is_left_and_when_it_resets() -> None:
    """What is left is that of the tightest hard limit of the measure; resets are windows' ends."""
    tomorrow = datetime(2100, 1, 2, tzinfo=UTC)
    later = datetime(2100, 2, 1, tzinfo=UTC)
    gate = loaded_gate(
        limit(limit_id="day", used=10, window_end=tomorrow),
        limit(limit_id="month", window="month", amount=40, used=40, window_end=later),
        limit(limit_id="wide", amount=100, used=40),
        limit(limit_id="soft", amount=5, used=9, enforcement="soft"),
        limit("team-2", limit_id="soft", amount=5, enforcement="soft"),
        limit("team-2", limit_id="tokens", measure="tokens", amount=500, used=100),
    )
    decision = gate.check("team-1")
    assert decision.left("runs") == 0
    assert decision.left("tokens") is None
    assert decision.resets_at == later
    assert [one.resets_at for one in decision.refused_by] == [tomorrow, later]
    admitted = gate.check("team-2")
    assert (admitted.left("runs"), admitted.left("tokens")) == (None, 400)
    assert admitted.resets_at is None


def test_a_soft_limit_never_refuses() -> None:
    """A soft limit that is passed is told, and admits."""
    decision = loaded_gate(limit(used=20, enforcement="soft")).check("team-1")
    assert decision
    (told,) = decision.limits
    assert (told.hard, told.left, told.refuses) == (False, 0, False)


def test_a_balance_has_no_time_at_which_it_resets() -> None:
    """An exhausted balance blocks, tells what is owed, and knows no reset."""
    gate = loaded_gate(
        limit(
            limit_id="credits",
            measure="credits",
            window="balance",
            window_end=None,
            amount=500,
            used=500,
        ),
        limit(limit_id="day", used=10),
    )
    decision = gate.check("team-1")
    assert {one.limit_id for one in decision.refused_by} == {"credits", "day"}
    assert decision.resets_at is None
    funded = limit(
        limit_id="credits",
        offset=2,
        measure="credits",
        window="balance",
        window_end=None,
        amount=500,
        used=-1_000,
    )
    gate.take(funded)
    assert gate.check("team-1").left("credits") == 1_500


def test_a_decision_does_not_change() -> None:
    """What was answered stays what it was when newer states come."""
    gate = loaded_gate(limit(used=3))
    before = gate.check("team-1")
    gate.take(limit(used=10, offset=2))
    assert (before.allowed, before.limits[0].used) == (True, 3)
    assert not gate.check("team-1")


def test_the_end_of_a_window_unblocks_nothing_by_itself() -> None:
    """A blocked limit whose window is over by this machine's clock waits for the new window."""
    over = datetime.now(UTC) - timedelta(hours=1)
    gate = loaded_gate(limit(used=10, window_end=over))
    decision = gate.check("team-1")
    assert not decision
    assert decision.resets_at == over
    gate.take(limit(offset=2, window_start=over))
    assert gate.check("team-1")


@pytest.mark.parametrize("fail", ["fail_open", "fail_closed"])
def test_before_everything_is_read_the_setting_decides(fail: str) -> None:
    """Neither an empty gate, nor a half-read topic, nor one without heartbeat counts as known."""
    gate = FedGate(gate_fail=fail)
    for _ in range(2):
        decision = gate.check("team-1")
        assert (decision.rule, decision.age_s) == (fail, None)
        assert decision.allowed == (fail == "fail_open")
        gate.take(limit(), heartbeats(1))
    assert not gate.ready()
    assert gate.metric("age_seconds") == math.inf
    gate.reach_end()
    assert gate.ready()
    assert gate.check("team-1").rule == "within_limits"
    silent = FedGate(gate_fail=fail)
    silent.take(limit())
    silent.reach_end()
    assert silent.ready()
    assert silent.check("team-1").rule == fail


def test_each_partition_has_its_own_age() -> None:
    """A team whose partition is behind is decided by the setting; others are not."""
    gate = FedGate(gate_fail="fail_closed")
    here, elsewhere = (
        "team-1",
        next(
            f"team-{n}"
            for n in range(99)
            if partition_of(f"team-{n}", 4) != partition_of("team-1", 4)
        ),
    )
    gate.take(heartbeats(1, age_s=60))
    gate.reach_end()
    number = partition_of(here, 4)
    gate.take([beat for beat in heartbeats(2) if beat.partition == number])
    assert gate.check(here).rule == "within_limits"
    decision = gate.check(elsewhere)
    assert decision.rule == "fail_closed"
    assert decision.age_s is not None
    assert 59 < decision.age_s < 600
    assert 59 < gate.metric("age_seconds") < 600


def test_what_was_known_to_be_reached_stays_so_when_news_fail() -> None:
    """Failing open does not unblock a window that lasts; it admits the rest, and ended windows."""
    over = datetime.now(UTC) - timedelta(minutes=10)
    stale = FedGate(gate_fail="fail_open")
    stale.take(
        limit("full", used=10),
        limit("over", used=10, window_end=over),
        limit("owing", measure="credits", window="balance", window_end=None, amount=0),
        heartbeats(1, age_s=60),
    )
    stale.reach_end()
    found = {team: stale.check(team).rule for team in ("full", "over", "owing", "free")}
    assert found == {
        "full": "blocked",
        "over": "fail_open",
        "owing": "blocked",
        "free": "fail_open",
    }


def test_the_clocks_may_differ_by_a_margin() -> None:
    """A window is over by this machine's clock only when the margin has passed as well."""
    just_over = datetime.now(UTC) - timedelta(seconds=2)
    for margin_s, rule in ((300, "blocked"), (0, "fail_open")):
        gate = FedGate(gate_clock_margin_s=margin_s)
        gate.take(limit(used=10, window_end=just_over), heartbeats(1, age_s=60))
        gate.reach_end()
        assert gate.check("team-1").rule == rule


def test_checks_are_counted_by_rule_and_name_nobody() -> None:
    """The metrics tell outcomes, limits and what was passed over, without ids in labels."""
    gate = loaded_gate(limit(used=10), limit("team-2"))
    for team in ("team-1", "team-2", "team-2"):
        gate.check(team)
    gate.take(limit(used=1, offset=0), limit(used=10))
    assert gate.metric("checks_total", rule="blocked") == 1
    assert gate.metric("checks_total", rule="within_limits") == 2
    assert gate.metric("states") == 2
    assert gate.metric("ignored_total", reason="old") == 1
    assert gate.metric("ignored_total", reason="repeated") == 1
    for family in gate.registry.collect():
        for sample in family.samples:
            assert set(sample.labels) <= {"gate", "rule", "reason", "kind", "le", "publisher"}


def test_positions_are_those_of_the_contract() -> None:
    """The order of two states is that of generation, then journal offset."""
    assert as_of(0, 5, generation=2).generation == 2
    gate = loaded_gate(limit(used=10, offset=9, generation=1))
    gate.take(limit(used=0, offset=1, generation=2))
    assert gate.check("team-1")
    gate.take(limit(used=10, offset=8, generation=1))
    assert gate.check("team-1")
