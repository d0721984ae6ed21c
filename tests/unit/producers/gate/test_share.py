"""Several processes that share a limit each keep to their part of what is left."""

from tests.support.limit_states import FedGate, limit, loaded_gate

from meterstream.producers import Amounts, GateSettings
from meterstream.producers.gate.share import SECOND_STAGE_S, sharing

ONE = Amounts(runs=1)


def _admitted(gate: FedGate, tries: int = 1_000) -> int:
    return sum(1 for _ in range(tries) if gate.reserve(ONE, "team-1"))


def test_a_process_takes_its_part_and_always_one_run() -> None:
    """Of what is left each of four takes a quarter, and one run where a quarter is less."""
    gate = loaded_gate(limit(amount=1_000), gate_processes=4)
    assert _admitted(gate) == 250
    refused = gate.reserve(ONE, "team-1")
    assert refused.decision.rule == "share"
    assert [one.left for one in refused.decision.refused_by] == [750]
    assert gate.check("team-1")
    assert _admitted(loaded_gate(limit(amount=3), gate_processes=4)) == 1
    assert _admitted(loaded_gate(limit(amount=1_000, used=1_000), gate_processes=4)) == 0


def test_after_a_burst_a_process_waits_for_what_the_others_may_have_used() -> None:
    """When much was counted of late, the others may have their parts of what was left before."""
    gate = loaded_gate(limit(amount=1_000), gate_processes=4)
    gate.take(limit(amount=1_000, used=250, offset=2))
    assert _admitted(gate) == 1
    quiet = loaded_gate(limit(amount=1_000, used=250), gate_processes=4)
    assert _admitted(quiet) == 187


def test_a_new_window_starts_anew() -> None:
    """What was used in the window before says nothing of the new one."""
    gate = loaded_gate(limit(amount=100, used=100), gate_processes=4)
    anew = limit(amount=100, offset=2, window_start="2100-01-01T00:00:00Z", window_end=None)
    gate.take(anew)
    assert _admitted(gate) == 25


def test_the_share_does_not_bind_where_too_little_is_known() -> None:
    """With fail_open and old knowledge only what is known to be used up refuses."""
    gate = loaded_gate(limit(amount=8), gate_processes=4)
    assert _admitted(gate) == 2
    for partition in gate._known.partitions:
        partition.clock_us = 0
    assert gate.reserve(ONE, "team-1").decision.rule == "fail_open"
    assert _admitted(gate) == 5
    assert gate.reserve(ONE, "team-1").decision.rule == "held"


def test_soft_limits_are_not_shared_out() -> None:
    """A limit that refuses nothing holds nobody back."""
    gate = loaded_gate(limit(amount=8, enforcement="soft"), gate_processes=4)
    assert _admitted(gate, 50) == 50


def test_organisations_are_shared_as_teams_are_unless_told_and_settle_later() -> None:
    """Their limits hear of a run by what the second stage takes later."""
    made = GateSettings.make(kafka_bootstrap="none", gate_processes=3, gate_settling_s=7)
    assert sharing(made) == ((3, 7.0), (3, 7.0 + SECOND_STAGE_S))
    more = made.model_copy(update={"gate_organisation_processes": 5})
    assert sharing(more)[1].processes == 5
