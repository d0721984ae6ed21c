"""What is reserved and what is settled counts, until the meter has counted it."""

import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from tests.support.limit_states import (
    FedGate,
    heartbeat,
    limit,
    loaded_gate,
    removed,
)
from tests.support.waiting import eventually

from meterstream.producers import (
    Amounts,
    Delivery,
    EventRefused,
    InvalidAmounts,
    Reservation,
    ReservationEnded,
)
from meterstream.producers.encode import encode
from meterstream.producers.gate import pending
from meterstream.producers.spool import Acks
from meterstream.producers.ticket import Ticket

ONE = Amounts(runs=1)
CAP = limit(amount=3)
PARTITION = CAP.partition


def _held(gate: FedGate) -> int:
    (told,) = gate.check("team-1").limits
    return told.held


def _ended(gate: FedGate) -> bool:
    gate.expire()
    return _held(gate) == 0


def _delivery() -> tuple[Delivery, Ticket]:
    event = encode(
        {
            "type": "meterstream.run.completed.v1",
            "time": "2026-01-31T12:00:01Z",
            "data": {
                "team_id": "team-1",
                "run_id": "r",
                "operation": "agent_run",
                "started_at": "2026-01-31T12:00:00Z",
                "status": "completed",
            },
        },
        "/tests",
    )
    ticket = Ticket(event, 0, lambda: None)
    return Delivery(ticket), ticket


def test_what_is_reserved_counts_as_used() -> None:
    """A cap of three admits three runs side by side, and a fourth when one is released."""
    gate = loaded_gate(CAP)
    taken = [gate.reserve(ONE, "team-1") for _ in range(3)]
    assert all(taken)
    refused = gate.reserve(ONE, "team-1")
    assert not refused
    assert refused.decision.rule == "held"
    assert gate.check("team-1").rule == "held"
    taken[0].release()
    assert gate.check("team-1").left("runs") == 1
    assert gate.reserve(ONE, "team-1")


def test_an_estimate_that_does_not_fit_is_refused_and_holds_nothing() -> None:
    """All limits must have room for the estimate in their own measure, or none is charged."""
    gate = loaded_gate(
        limit(limit_id="tokens", measure="tokens", amount=100),
        limit(limit_id="credits", measure="credits", amount=50),
        limit(limit_id="soft", amount=0, enforcement="soft"),
    )
    assert not gate.reserve(Amounts(tokens=101), "team-1")
    assert not gate.reserve(Amounts(tokens=10, credits_micro=51), "team-1")
    assert [one.held for one in gate.check("team-1").limits] == [0, 0, 0]
    assert gate.reserve(Amounts(tokens=100, credits_micro=49, runs=1), "team-1")
    assert {one.limit_id: one.held for one in gate.check("team-1").limits} == {
        "tokens": 100,
        "credits": 49,
        "soft": 1,
    }
    decision = gate.reserve(Amounts(), "team-1").decision
    assert [one.limit_id for one in decision.refused_by] == ["tokens"]


def test_what_was_settled_waits_for_its_own_offset() -> None:
    """It is held until a heartbeat of the partition has passed the offset of its event."""
    gate = loaded_gate(CAP)
    gate.reserve(ONE, "team-1").settle(Amounts(runs=2), 41)
    assert _held(gate) == 2
    gate.take(heartbeat(PARTITION, 5, position=41))
    assert _held(gate) == 2
    gate.take(heartbeat(PARTITION, 6, position=42))
    assert _held(gate) == 0


def test_a_state_that_counts_the_event_relieves_its_limit_at_once() -> None:
    """The state tells what was used up to its position: the same run is not added once more."""
    gate = loaded_gate(CAP)
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    gate.take(limit(amount=3, used=1, offset=5, position=42))
    (told,) = gate.check("team-1").limits
    assert (told.used, told.held, told.left) == (1, 0, 2)


def test_an_event_that_is_counted_already_is_not_held() -> None:
    """Where the meter was faster than the settlement nothing is added."""
    gate = loaded_gate(CAP)
    gate.take(heartbeat(PARTITION, 5, position=42))
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    assert _held(gate) == 0
    gate.take(limit(amount=3, used=1, offset=6, position=50))
    gate.reserve(ONE, "team-1").settle(ONE, 49)
    assert _held(gate) == 0


def test_heartbeats_of_other_partitions_relieve_nothing() -> None:
    """Offsets are those of the team's own partition."""
    gate = loaded_gate(CAP)
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    gate.take(heartbeat((PARTITION + 1) % 4, 9, position=1000))
    assert _held(gate) == 1


def test_a_receipt_tells_the_offset_when_it_is_acknowledged() -> None:
    """Until then the use is held; then until its offset, or one behind it, is passed."""
    gate = loaded_gate(CAP)
    delivery, ticket = _delivery()
    acks = Acks()
    gate.reserve(ONE, "team-1").settle(ONE, delivery)
    gate.take(heartbeat(PARTITION, 5, position=1_000))
    ticket.written(0, acks)
    assert _held(gate) == 1
    acks.reached(PARTITION, 2_000)
    acks.settle(0)
    assert _held(gate) == 1
    gate.take(heartbeat(PARTITION, 6, position=2_001))
    assert _held(gate) == 0


def test_an_acknowledged_receipt_is_bounded_by_the_last_offset() -> None:
    """Where the event was acknowledged before, the last offset known stands for its own."""
    gate = loaded_gate(CAP)
    delivery, ticket = _delivery()
    acks = Acks()
    ticket.written(0, acks)
    acks.reached(PARTITION, 7)
    acks.settle(0)
    acks.reached(PARTITION, 9)
    gate.reserve(ONE, "team-1").settle(ONE, delivery)
    gate.take(heartbeat(PARTITION, 5, position=8))
    assert _held(gate) == 1
    gate.take(heartbeat(PARTITION, 6, position=10))
    assert _held(gate) == 0


def test_an_event_that_is_refused_is_held_no_longer() -> None:
    """What the broker will never take is never counted."""
    gate = loaded_gate(CAP)
    delivery, ticket = _delivery()
    acks = Acks()
    ticket.written(0, acks)
    gate.reserve(ONE, "team-1").settle(ONE, delivery)
    assert _held(gate) == 1
    acks.settle(0, EventRefused("too large"))
    assert _held(gate) == 0


def test_without_an_offset_the_use_is_held_for_a_time() -> None:
    """No receipt, or a broker that told no offset: nobody can tell when it is counted."""
    gate = loaded_gate(CAP, gate_reservation_timeout_s=1)
    acks = Acks()
    delivery, ticket = _delivery()
    ticket.written(0, acks)
    acks.reached(PARTITION, 5)
    acks.reached(PARTITION, -1001)
    acks.settle(0)
    gate.reserve(ONE, "team-1").settle(ONE, delivery)
    gate.reserve(ONE, "team-1").settle(ONE)
    gate.reserve(ONE, "team-1").settle(ONE, -1001)
    gate.take(heartbeat(PARTITION, 9, position=1_000))
    assert _held(gate) == 3
    eventually(lambda: _ended(gate), 30, "what was settled so ends by time")
    assert _held(gate) == 0


def test_a_reservation_that_nobody_settles_is_given_up() -> None:
    """It counts until its time is over, is then told, and may still be settled."""
    gate = loaded_gate(CAP, gate_reservation_timeout_s=1)
    forgotten = gate.reserve(ONE, "team-1")
    assert _held(gate) == 1
    eventually(lambda: _ended(gate), 30, "the reservation is given up")
    assert gate.metric("expired_total") == 1
    forgotten.settle(Amounts(runs=2), 41)
    assert _held(gate) == 2


@pytest.mark.parametrize(
    "end", [lambda one: one.settle(ONE, 1), lambda one: one.release()], ids=["settle", "release"]
)
def test_a_reservation_ends_once(end: Callable[[Reservation], None]) -> None:
    """A second settlement, or one of a refused reservation, is an error of the caller."""
    gate = loaded_gate(CAP)
    twice = gate.reserve(ONE, "team-1")
    end(twice)
    with pytest.raises(ReservationEnded, match="settled or released before"):
        end(twice)
    with pytest.raises(ReservationEnded, match=r"refused \(held\)"):
        end(gate.reserve(Amounts(runs=4), "team-1"))


def test_a_block_lets_go_of_what_was_not_settled_in_it() -> None:
    """As a context manager a reservation is released at the end, also by an exception."""
    gate = loaded_gate(CAP)
    with gate.reserve(ONE, "team-1"):
        assert _held(gate) == 1
    assert _held(gate) == 0
    with pytest.raises(ZeroDivisionError), gate.reserve(ONE, "team-1"):
        raise ZeroDivisionError
    assert _held(gate) == 0
    with gate.reserve(ONE, "team-1") as settled:
        settled.settle(ONE, 41)
    assert _held(gate) == 1
    with gate.reserve(Amounts(runs=9), "team-1") as refused:
        assert not refused


def test_what_waits_outlives_a_new_window_and_not_a_removed_limit() -> None:
    """A state of the next window keeps what is held; a limit that was removed takes it along."""
    gate = loaded_gate(CAP)
    open_one = gate.reserve(ONE, "team-1")
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    gate.take(limit(amount=3, offset=5, position=10))
    assert _held(gate) == 2
    gate.take(removed(CAP))
    assert gate.check("team-1").limits == ()
    gate.take(limit(amount=3, offset=8, position=11))
    open_one.release()
    gate.take(heartbeat(PARTITION, 9, position=42))
    assert _held(gate) == 0


def test_offsets_of_a_topic_that_was_made_again_end_by_time() -> None:
    """What waited for an offset of the old events topic cannot be seen counted: time ends it."""
    gate = loaded_gate(CAP, gate_reservation_timeout_s=1)
    gate.reserve(ONE, "team-1").settle(ONE, 41)
    other = UUID(int=9)
    gate.take(
        limit(amount=3, offset=1, topic_id=other),
        heartbeat(PARTITION, 1, position=1_000, topic_id=other, age_s=-1),
    )
    assert _held(gate) == 1
    eventually(lambda: _ended(gate), 30, "it is given up")
    assert _held(gate) == 0


def test_many_settled_runs_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is counted for long, settled runs are added up, and none ends too early."""
    monkeypatch.setattr(pending, "PENDING_MAX", 8)
    gate = loaded_gate(limit(amount=10_000))
    for offset in range(100, 200):
        gate.reserve(ONE, "team-1").settle(ONE, offset)
    assert _held(gate) == 100
    for position in (110, 150, 199):
        gate.take(heartbeat(PARTITION, position, position=position))
        assert _held(gate) >= 200 - position
    gate.take(heartbeat(PARTITION, 200, position=200))
    assert _held(gate) == 0


def test_reservations_are_atomic_among_threads() -> None:
    """Eight threads that reserve at once get exactly what there is."""
    gate = loaded_gate(limit(amount=500))
    admitted: list[int] = []

    def reserve_many() -> None:
        admitted.append(sum(1 for _ in range(200) if gate.reserve(ONE, "team-1")))

    threads = [threading.Thread(target=reserve_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 500
    assert _held(gate) == 500


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "1", 2**63])
def test_amounts_are_whole_numbers(wrong: object) -> None:
    """An amount that nothing can be used in is refused before it is held."""
    with pytest.raises(InvalidAmounts, match="tokens is a whole number from 0 to"):
        Amounts(tokens=wrong)  # type: ignore[arg-type]


def test_a_limit_of_a_user_counts_that_users_runs() -> None:
    """What is settled is held against the limits of its own subjects, also those set meanwhile."""
    gate = loaded_gate(CAP, limit(limit_id="u", subject="user", subject_id="ada"))
    run = gate.reserve(ONE, "team-1", user="ada")
    gate.take(limit(limit_id="late", offset=3, subject="user", subject_id="ada"))
    run.settle(Amounts(runs=2), 41)
    assert {one.limit_id: one.held for one in gate.check("team-1", user="ada").limits} == {
        "cap": 2,
        "u": 2,
        "late": 2,
    }
