"""What sessions are charged: the clock's time between their signs, by machine size."""

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Json,
    Partition,
    card,
    cells,
    charges,
    entries,
    envelope,
    rejects,
    run,
    session,
    text_of,
    verdicts,
)

from meterstream.schemas.journal import Section
from meterstream.schemas.verdicts import Verdict

START: Json = {"application": "notebook", "machine_size": "small", "user_id": "u", "agent_id": "a"}


def sold(version: int = 1, effective_us: int = NOW - DAY, **more: object) -> Json:
    """Return a card that prices small machines, a micro-credit a second, and large ones."""
    made = card(version, effective_us)
    prices = {"session_micro_per_second": {"small": 1, "large": 1_000_000}}
    return {**made, "data": {**made["data"], **prices, **more}}


def priced(*published: Json) -> Partition:
    """Return a partition whose first record took catalog entries."""
    partition = Partition()
    partition.take_batch(None, catalog=entries(*(published or (sold(),))))
    return partition


def credited(partition: Partition, *events: Json, at_us: int) -> list[int]:
    """Return the credits that each sign charges, which all arrive at one time."""
    return [one.get("session_micro", 0) for one in charges(partition.take(*events, at_us=at_us))]


def test_each_heartbeat_and_the_end_charge_the_time_since_the_last_sign() -> None:
    """Nothing for the start, then the clock's time, up to the end and not beyond it."""
    partition = priced()
    assert credited(partition, session("started", "a", **START), at_us=NOW) == []
    assert credited(partition, session("heartbeat", "b", NOW), at_us=NOW + MINUTE) == [60]
    assert credited(partition, session("ended", "c", NOW), at_us=NOW + 90 * SECOND) == [30]
    assert credited(partition, session("heartbeat", "d", NOW), at_us=NOW + HOUR) == []
    assert partition.state.sessions["team", "s"].credits_micro == 90
    assert partition.state.sessions["team", "s"].charged_us == NOW + 90 * SECOND


def test_the_row_and_the_cell_of_a_sign() -> None:
    """Session time stands in a cell of its own, of the sign's minute, with the session's names."""
    partition = priced()
    partition.take(session("started", "a", **START), run("r", user_id="u", agent_id="a"))
    step = partition.take(session("heartbeat", "b", NOW + 61 * SECOND), at_us=NOW + MINUTE)
    assert charges(step)[0] == {
        "event_offset": 2,
        "event_time": step.changes.sessions[0].to_row()["last_seen_at"],
        "cell": 0,
        "card": "default@1",
        "credits_micro": 60,
        "session_micro": 60,
        "line": -1,
        "multiplier_ppm": 1_000_000,
        "session_us": MINUTE,
        "session_id": "s",
    }
    assert cells(step) == [(60, {"credits_micro": 60, "session_us": MINUTE})]
    key = step.changes.cells.keys[0]
    assert key[1:] == ("team", "u", "", "a", "", "", "", "", "session")


def test_the_clock_decides_and_not_the_senders_time() -> None:
    """Event times say in which minute it counts, never how long a session lasted."""
    partition = priced()
    partition.take(session("started", "a", NOW - HOUR, **START))
    step = partition.take(session("heartbeat", "b", NOW - HOUR), at_us=NOW + MINUTE)
    assert charges(step)[0]["session_micro"] == 60
    assert cells(step, Section.LATE_MINUTES) == [
        (-3600, {"credits_micro": 60, "session_us": MINUTE})
    ]


def test_a_repeated_sign_charges_nothing() -> None:
    """A heartbeat that comes twice is one sign, in the same batch or another."""
    partition = priced()
    partition.take(session("started", "a", **START))
    beat = session("heartbeat", "b", NOW)
    assert credited(partition, beat, beat, at_us=NOW + MINUTE) == [60]
    assert credited(partition, beat, at_us=NOW + HOUR) == []
    assert credited(partition, session("heartbeat", "c", NOW), at_us=NOW + HOUR) == [3540]


def test_a_start_that_comes_late_begins_nothing_anew() -> None:
    """The first sign begins the time, whatever it is; a start that follows charges nothing."""
    partition = priced()
    first = session("heartbeat", "a", NOW, machine_size="small")
    assert credited(partition, first, at_us=NOW) == []
    assert credited(partition, session("started", "b", **START), at_us=NOW + MINUTE) == []
    assert credited(partition, session("heartbeat", "c", NOW), at_us=NOW + 2 * MINUTE) == [120]


def test_time_is_charged_by_the_size_that_was_told_before_it() -> None:
    """A size that changes prices the time from then on."""
    partition = priced()
    partition.take(session("started", "a", **START))
    larger = session("heartbeat", "b", NOW, machine_size="large")
    assert credited(partition, larger, at_us=NOW + MINUTE) == [60]
    last = session("ended", "c", NOW)
    assert credited(partition, last, at_us=NOW + MINUTE + SECOND) == [1_000_000]


def test_the_agents_type_multiplies_and_the_cost_stays() -> None:
    """Credits and amount are multiplied, rounded once each; the provider's cost is not."""
    agent = envelope(
        "agent.registered", "a", NOW,
        {"agent_id": "a", "name": "n", "agent_type": "researcher", "created_by": "u",
         "created_at": text_of(NOW)},
    )  # fmt: skip
    money = sold(
        currency="USD",
        session_amount_micro_per_second={"small": 5},
        session_cost_micro_per_second={"small": 3},
        agent_type_multiplier_permille={"researcher": 1_500},
    )
    partition = priced(money, agent)
    partition.take(session("started", "a", **START))
    one = charges(partition.take(session("ended", "b", NOW), at_us=NOW + SECOND))[0]
    found = {name: one[name] for name in ("session_micro", "amount_micro", "cost_micro")}
    assert found == {"session_micro": 2, "amount_micro": 8, "cost_micro": 3}
    assert one["multiplier_ppm"] == 1_500_000


@pytest.mark.parametrize("size", ["huge", None])
def test_a_size_that_the_card_lacks_is_unpriced_and_seen(size: str | None) -> None:
    """The time is counted, charged nothing, and marked; so is that of a session without a size."""
    partition = priced()
    partition.take(session("started", "a", **START | {"machine_size": size}))
    step = partition.take(session("ended", "b", NOW), at_us=NOW + SECOND)
    assert charges(step)[0]["card"] == "unpriced"
    assert cells(step) == [(0, {"unpriced_runs": 1, "session_us": SECOND})]
    assert step.unpriced == 1


def test_without_a_card_session_time_is_unpriced() -> None:
    """Before any card is in force nobody knows whether sessions are free."""
    partition = Partition()
    partition.take(session("started", "a", **START))
    step = partition.take(session("ended", "b", NOW), at_us=NOW + SECOND)
    assert [one["card"] for one in charges(step)] == ["unpriced"]


def test_a_card_that_sells_no_session_charges_none() -> None:
    """Where no size has a price, sessions are followed and no charge is written."""
    partition = priced(card())
    partition.take(session("started", "a", **START))
    step = partition.take(session("ended", "b", NOW), at_us=NOW + SECOND)
    assert charges(step) == []
    assert [one.status for one in step.changes.sessions] == ["completed"]


def test_runs_and_signs_of_one_batch_are_charged_in_order() -> None:
    """Charges ascend by offset, each in its own cell, and the sketches hold the runs alone."""
    partition = priced()
    partition.take(session("started", "a", **START))
    step = partition.take(
        session("heartbeat", "b", NOW),
        run("r", input_tokens=1_000),
        session("heartbeat", "c", NOW),
        run("q", input_tokens=1_000),
        at_us=[NOW + MINUTE, NOW + MINUTE, NOW + 2 * MINUTE, NOW + 2 * MINUTE],
    )
    assert [(one["event_offset"], one["credits_micro"]) for one in charges(step)] == [
        (1, 60),
        (2, 1_000),
        (3, 60),
        (4, 1_000),
    ]
    values = step.changes.cells
    by_operation = {key[9]: i for i, key in enumerate(values.keys)}
    assert sum(values.latency[by_operation["agent_run"]].values()) == 2
    assert values.latency[by_operation["session"]] == {}
    assert values.sums[by_operation["session"]][0] == 0


def test_time_that_costs_too_much_refuses_its_sign() -> None:
    """Above a million credits the sign is refused, in any batch, and nothing is charged for it."""
    for size in (1, 4):
        partition = priced(sold(session_micro_per_second={"small": 10**12}))
        events = [
            session("started", "a", **START),
            session("heartbeat", "b", NOW),
            session("heartbeat", "c", NOW),
            run("r", input_tokens=1_000),
        ]
        times = [NOW, NOW + SECOND, NOW + 3 * SECOND, NOW + 3 * SECOND]
        found, told = [], []
        for first in range(0, 4, size):
            step = partition.take(*events[first : first + size], at_us=times[first : first + size])
            found += verdicts(step)
            told += rejects(step)
        assert found == [
            Verdict.COUNTED, Verdict.COUNTED, Verdict.AMOUNT_TOO_LARGE, Verdict.COUNTED,
        ]  # fmt: skip
        detail = "the session's time would cost more than 1000000000000 millionths"
        assert told == [("events", 2, Verdict.AMOUNT_TOO_LARGE, detail)]
        assert partition.state.sessions["team", "s"].charged_us == NOW + SECOND


def test_the_card_in_force_at_the_sign_prices_the_whole_span() -> None:
    """A card that takes effect between two signs prices all the time between them."""
    later = sold(2, NOW + 6 * MINUTE, session_micro_per_second={"small": 7})
    partition = priced(sold(), later)
    partition.take(session("started", "a", **START))
    sign = session("heartbeat", "b", NOW + 6 * MINUTE)
    assert credited(partition, sign, at_us=NOW + 6 * MINUTE) == [7 * 360]
