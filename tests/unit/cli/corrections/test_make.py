"""Corrections say what a run is left with, and what cannot be is refused."""

from datetime import UTC, datetime

import pytest

from meterstream.cli.corrections.known import NONE, fold_corrections
from meterstream.cli.corrections.make import adjust, check_result, void
from meterstream.cli.corrections.runs import AMOUNTS, CountedRun
from meterstream.cli.errors import BadInput

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def run(*, missing: bool = False) -> CountedRun:
    """Return a run of 100 input tokens, 40 of them cached, for 7 millionths."""
    amounts = dict.fromkeys(AMOUNTS, 0)
    amounts |= {"input_tokens": 100, "cached_tokens": 40, "credits_micro": 7, "duration_us": 9}
    return CountedRun(
        source="/s", event_id="e", team_id="acme", run_id="r", session_id="", operation="agent_run",
        user_id="ada", project_id="", agent_id="", model="m", provider="", feature_id="",
        product="", card="default@1", event_missing=missing, latency_us=8, first_token_us=None,
        time_us=1_000_000, amounts=amounts,
    )  # fmt: skip


def test_a_void_takes_back_what_is_left() -> None:
    """Adjustments are taken back with the run, latency with its sign turned; its event is named."""
    first = adjust(run(), 1, {"credits_micro": -2, "input_tokens": 5}, "default@2", "why", NOW)
    made = fold_corrections([(first, NOW)])[run().identity]
    data = void(run(), made, "gone", NOW).data
    assert (data.input_tokens, data.cached_tokens, data.credits_micro) == (-105, -40, -5)
    assert (data.latency_us, data.first_token_us, data.runs, data.duration_us) == (-8, None, -1, -9)
    assert (data.original_id, data.user_id, data.project_id) == ("e", "ada", None)
    assert data.card == "default@2"


def test_two_of_one_number_count_once() -> None:
    """The same number again, or anything after a void, changes nothing."""
    one, other = (adjust(run(), 1, {"credits_micro": n}, "default@1", None, NOW) for n in (1, 2))
    gone = void(run(), fold_corrections([(one, NOW)])[run().identity], None, NOW)
    later = adjust(run(), 2, {"credits_micro": 9}, "default@1", None, NOW)
    log = [(event, NOW) for event in (one, one, other, gone, gone, later)]
    made = fold_corrections(log)[run().identity]
    assert made.is_void
    assert made.sums["credits_micro"] == -7
    assert len(made.notes) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_tokens": -101}, "input tokens of -1"),
        ({"input_tokens": -61}, "more cached_tokens than input_tokens"),
        ({"reasoning_tokens": 1}, "more reasoning_tokens than output_tokens"),
        ({"credits_micro": -8}, "credits micro of -1"),
    ],
)
def test_less_than_nothing_is_refused(changes: dict[str, int], said: str) -> None:
    """No amount of a run falls below zero, and no part above its whole."""
    with pytest.raises(BadInput, match=said):
        check_result(run(), NONE, changes)


def test_a_run_whose_event_was_gone_cannot_be_corrected() -> None:
    """Where the event's id and amounts are not known, that is said."""
    with pytest.raises(BadInput, match="cannot be corrected"):
        void(run(missing=True), NONE, None, NOW)
