"""Corrections add up: whatever was corrected before, rerating leaves the card's price, once."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from meterstream.cli.corrections.known import NONE, amounts_now, fold_corrections
from meterstream.cli.corrections.make import adjust, void
from meterstream.cli.corrections.prices import Prices
from meterstream.cli.corrections.rerate import Rerating
from meterstream.cli.corrections.runs import AMOUNTS, CountedRun
from meterstream.schemas.catalog import PriceLine, RateCardPublishedData, UnitPrices
from meterstream.schemas.times import from_us
from meterstream.streams.core.corrections import CorrectionEvent

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
CARD = RateCardPublishedData(
    name="default",
    version=2,
    currency="EUR",
    effective_from=from_us(0),
    prices=(
        PriceLine(model="m-1", run_micro=7, input_micro_per_1k=1_234, output_micro_per_1k=98_765),
        PriceLine(
            model="m-2",
            input_micro_per_1k=3,
            amount=UnitPrices(input_micro_per_1k=5),
            cost=UnitPrices(run_micro=2),
        ),
    ),
)
KINDS: tuple[Literal["adjustment", "rerating"], ...] = ("adjustment", "rerating")
PRICES = Prices({CARD.label: CARD}, {}, frozenset())


@st.composite
def runs(draw: st.DrawFn) -> list[CountedRun]:
    """Return runs that were counted by some card, by none, or by what they said themselves."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        card = draw(st.sampled_from(["unpriced", "explicit", "default@1"]))
        amounts = dict.fromkeys(AMOUNTS, 0)
        amounts |= {
            "input_tokens": draw(st.integers(0, 10**8)),
            "output_tokens": draw(st.integers(0, 10**6)),
            "credits_micro": 0 if card == "unpriced" else draw(st.integers(0, 10**11)),
            "cost_micro": draw(st.integers(0, 10**9)),
            "unpriced_runs": int(card == "unpriced"),
        }
        texts = dict.fromkeys(
            (
                "session_id", "user_id", "project_id", "agent_id", "provider", "feature_id",
                "product",
            ),
            "",
        )  # fmt: skip
        found.append(
            CountedRun(
                **texts,
                source="/s", event_id=f"e-{number}", run_id=f"r-{number}",
                team_id=draw(st.sampled_from(["a", "b"])),
                model=draw(st.sampled_from(["m-1", "m-2", "m-3"])),
                operation="agent_run", card=card, event_missing=False, latency_us=5,
                first_token_us=draw(st.none() | st.integers(0, 5)), time_us=10**15,
                amounts=amounts,
            )
        )  # fmt: skip
    return found


def at_once(events: Iterable[CorrectionEvent]) -> list[tuple[Any, datetime]]:
    """Return events with the time that they were written at."""
    return [(event, NOW) for event in events]


@given(runs(), st.data())
def test_rerating_leaves_the_cards_price_once(
    counted: list[CountedRun], data: st.DataObject
) -> None:
    """After it each priced run costs what its card says, and a second time changes nothing."""
    log: list[CorrectionEvent] = []
    for run in counted:
        for number in range(1, data.draw(st.integers(1, 3))):
            change = {"credits_micro": data.draw(st.integers(-(10**9), 10**9)), "input_tokens": 3}
            kind = data.draw(st.sampled_from(KINDS))
            if kind == "adjustment" and data.draw(st.booleans()):
                del change["credits_micro"]
            log.append(adjust(run, number, change, run.card, "before", NOW, kind=kind))
        if data.draw(st.booleans()):
            made = fold_corrections(at_once(log)).get(run.identity, NONE)
            log.append(void(run, made, None, NOW))
    before = fold_corrections(at_once(log))
    rerating = Rerating(PRICES, before, None, "rerated")
    summary = rerating.summary([counted], lambda _: None)
    written = list(itertools.chain.from_iterable(rerating.corrections([counted], NOW)))
    assert len(written) == summary.changed
    after = fold_corrections(at_once([*log, *written]))
    for run in counted:
        made = after.get(run.identity, NONE)
        now = amounts_now(run, made)
        if made.is_void:
            assert not any(now.values())
        elif run.card == "explicit" or run.model == "m-3" or made.by_hand:
            assert now == amounts_now(run, before.get(run.identity, NONE))
        else:
            line = CARD.prices[int(run.model[-1]) - 1]
            tokens, others = now["input_tokens"], now["output_tokens"]
            expected = line.run_micro + (tokens * line.input_micro_per_1k + 500) // 1000
            expected += (others * line.output_micro_per_1k + 500) // 1000
            assert (now["credits_micro"], now["unpriced_runs"]) == (expected, 0)
            money = ((tokens * 5 + 500) // 1000, 2) if run.model == "m-2" else (0, 0)
            assert (now["amount_micro"], now["cost_micro"]) == money
    again = Rerating(PRICES, after, None, "rerated")
    assert list(again.corrections([counted], NOW)) == []
    told = summary.by_team_and_model.values()
    changed = sum(event.data.credits_micro for event in written)
    assert sum(each.after_micro - each.before_micro for each in told) == changed
