"""The gate for tests of services decides as the real one does."""

import pytest

from meterstream.producers import Amounts, Meter
from meterstream.producers.testing import InMemoryGate, InMemoryPublisher


def test_it_knows_what_it_is_told() -> None:
    """Limits are set, told anew and removed; what is settled is held until it is counted."""
    gate = InMemoryGate()
    assert gate.ready()
    assert gate.check("team-1").rule == "within_limits"
    gate.set_limit("daily", "team-1", user="ada", amount=2)
    assert gate.check("team-1", user="bob")
    gate.reserve(Amounts(runs=2), "team-1", user="ada").settle(Amounts(runs=2), 7)
    assert gate.check("team-1", user="ada").rule == "held"
    gate.set_limit("daily", "team-1", user="ada", amount=2, used=2)
    gate.counted(8)
    assert gate.check("team-1", user="ada").rule == "blocked"
    gate.remove_limit("daily", "team-1")
    assert gate.check("team-1", user="ada")


def test_it_rehearses_an_outage() -> None:
    """Old knowledge is decided by the setting until something is counted again."""
    gate = InMemoryGate(gate_fail="fail_closed")
    gate.go_stale()
    assert gate.check("team-1").rule == "fail_closed"
    gate.counted(1)
    assert gate.check("team-1")


def test_balances_and_soft_limits_can_be_told() -> None:
    """An owed balance blocks at the overdraft, a soft limit never."""
    gate = InMemoryGate()
    gate.set_limit("credits", "t", measure="credits", window="balance", amount=5, used=5)
    gate.set_limit("soft", "u", amount=0, hard=False)
    assert not gate.check("t")
    assert gate.check("u")
    with pytest.raises(TypeError, match="not of a room"):
        gate.set_limit("odd", "t", amount=1, room="x")


def test_organisations_can_be_told() -> None:
    """Their limits apply to the teams put into them, are held, counted, stale and removed."""
    gate = InMemoryGate(gate_fail="fail_closed")
    gate.put_into("t", "acme", "group")
    gate.set_limit("cap", organisation="group", amount=2)
    gate.reserve(Amounts(runs=2), "t").settle(Amounts(runs=2), 7)
    assert gate.check("t").rule == "held"
    assert gate.check("other")
    gate.counted(8)
    assert gate.check("t")
    gate.go_stale()
    assert gate.check("t").rule == "fail_closed"
    gate.counted(9)
    gate.put_into("t", "elsewhere")
    assert gate.check("t").limits == ()
    gate.remove_limit("cap", organisation="group")
    with pytest.raises(TypeError, match="of a team or of an organisation"):
        gate.set_limit("odd", amount=1)
    with pytest.raises(TypeError, match="of a team or of an organisation"):
        gate.set_limit("odd", "t", amount=1, organisation="group")


def test_a_run_without_a_receipt_can_be_settled() -> None:
    """A publisher that gives no receipts leaves None, and the use is held for its time."""
    gate = InMemoryGate()
    gate.set_limit("daily", "t", amount=1)
    with gate.reserve(Amounts(runs=1), "t") as reservation:
        with Meter(InMemoryPublisher(), source="/t", raise_errors=True).run(team_id="t") as run:
            run.tokens(input=1)
        assert run.delivery is None
        reservation.settle(Amounts(runs=1), run.delivery)
    assert gate.check("t").rule == "held"
