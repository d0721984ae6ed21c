"""What counted runs are charged, and which run costs too much."""

from typing import Any

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Json,
    Partition,
    card,
    cells,
    charges,
    entries,
    rejects,
    run,
    verdicts,
)

from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Policy,
)

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


def priced(*cards: Json, **policy: Any) -> Partition:
    """Return a partition whose first record took rate cards."""
    partition = Partition(Policy(1, **policy))
    partition.take_batch(None, catalog=entries(*cards))
    return partition


def test_runs_are_priced_by_the_card_in_force_at_their_time() -> None:
    """A card prices runs from its first microsecond on, also when they arrive in one batch."""
    change = NOW + 6 * MINUTE
    partition = priced(
        card(1, NOW, prices=[{"run_micro": 1}]), card(2, change, prices=[{"run_micro": 2}])
    )
    step = partition.take(
        run("a", NOW - 1), run("b", NOW), run("c", change - 1), run("d", change), at_us=change
    )
    assert [(c["card"], c.get("credits_micro"), c.get("run_micro")) for c in charges(step)] == [
        ("unpriced", None, None),
        ("default@1", 1, 1),
        ("default@1", 1, 1),
        ("default@2", 2, 2),
    ]
    assert [sums.get("unpriced_runs") for _, sums in cells(step)] == [1, None, None, None]


def test_explicit_credits_are_charged_as_they_are() -> None:
    """Where an event names its credits, even none, no card is asked."""
    partition = priced(card(prices=[{"run_micro": 7}]))
    step = partition.take(run("a", credits_micro=5), run("b", credits_micro=0), run("c"))
    assert charges(step)[0] | {"event_time": 0} == {
        "event_offset": 0, "event_time": 0, "cell": 0,
        "card": "explicit", "credits_micro": 5, "explicit_micro": 5,
        "line": -1, "multiplier_ppm": 1_000_000,
    }  # fmt: skip
    assert [c["card"] for c in charges(step)] == ["explicit", "explicit", "default@1"]
    assert cells(step)[0][1]["credits_micro"] == 12
    assert "unpriced_runs" not in cells(step)[0][1]


def test_a_run_that_no_line_fits_is_counted_unpriced() -> None:
    """A card without a fitting line charges nothing, and says so."""
    step = priced(card(prices=[{"model": "m", "run_micro": 7}])).take(run("a"), run("b", model="m"))
    assert [c["card"] for c in charges(step)] == ["unpriced", "default@1"]
    assert [sums.get("unpriced_runs") for _, sums in cells(step)] == [1, None]


@pytest.mark.parametrize(("output_micro", "verdict"), [(0, COUNTED), (1, Verdict.AMOUNT_TOO_LARGE)])
def test_a_run_costs_a_million_credits_at_most(output_micro: int, verdict: Verdict) -> None:
    """Exactly the bound is charged; one micro-credit more refuses the run, and only that one."""
    partition = priced(
        card(prices=[{"run_micro": 10**12, "output_micro_per_1k": 1000 * output_micro}])
    )
    step = partition.take(run("a", output_tokens=1), run("b", credits_micro=10**12))
    assert verdicts(step) == [verdict, COUNTED]
    if verdict is not COUNTED:
        detail = "the run would cost more than 1000000000000 millionths"
        assert rejects(step) == [("events", 0, verdict, detail)]
        assert [c["event_offset"] for c in charges(step)] == [1]


def test_an_amount_that_64_bits_cannot_hold_is_refused() -> None:
    """A run at all bounds overflows nothing: it is refused, and its neighbours are exact."""
    lines = ("input_micro_per_1k", "output_micro_per_1k", "response_micro_per_mb")
    most = dict.fromkeys(lines, 10**12)
    step = priced(card(prices=[most])).take(
        run("a", input_tokens=10**9, output_tokens=10**9, response_bytes=10**12),
        run("b", input_tokens=1, output_tokens=3),
    )
    assert verdicts(step) == [Verdict.AMOUNT_TOO_LARGE, COUNTED]
    assert cells(step)[0][1]["credits_micro"] == 4 * 10**9


def test_what_is_too_late_is_too_late_before_it_costs_too_much() -> None:
    """Of several reasons the time is named, and of a resend that it is one."""
    prices = [{"run_micro": 10**12, "output_micro_per_1k": 1000}]
    partition = priced(card(1, NOW - 9 * DAY, prices=prices))
    times = {"a": NOW - 2 * DAY, "b": NOW + HOUR, "c": NOW}
    step = partition.take(*(run(name, at, output_tokens=1) for name, at in times.items()))
    assert verdicts(step) == [Verdict.TOO_LATE, Verdict.TIME_AHEAD, Verdict.AMOUNT_TOO_LARGE]
