"""Session time is charged as the slow model charges it, in any batches and after any restart."""

import pytest
from tests.support.budget import share
from tests.support.core_runner import run_core
from tests.support.events import START_US, Mix, agent, make_records, rate_card
from tests.support.model import MINUTE_US, Rules, run_model

from meterstream.streams.core import Policy

SIGNS = Mix(resends=100, conflicts=20, broken=10, scrambled=5, late=100, sessions=700, skewed=2)


@pytest.mark.parametrize("mean_batch", [1, 40, 1_000])
@pytest.mark.parametrize("seed", range(3))
def test_core_and_model_charge_the_same(seed: int, mean_batch: int) -> None:
    """Late, repeated and misplaced signs, sizes that change or have no price, cards that follow."""
    # With fewer of them some seed has no session time that is priced.
    records = make_records(seed, max(160, share(400)), mix=SIGNS, step_us=20_000_000)
    cards = {
        records[20].offset: [rate_card(1, START_US), agent(1, "researcher")],
        records[60].offset: [rate_card(2, START_US + 40 * MINUTE_US), agent(2, "assistant")],
    }
    expected = run_model(records, Rules(4), 0, now_us=START_US, clock_us=START_US, cards=cards)
    meter = run_core(
        records, Policy(4), 0, now_us=START_US, clock_us=START_US, cards=cards, seed=seed,
        mean_batch=mean_batch,
    )  # fmt: skip
    counted = meter.reader.counted
    assert counted.charges == expected.charges
    assert counted.cells == expected.cells
    assert counted.verdicts == expected.verdicts
    session_time = [charge for charge in expected.charges.values() if charge.session_us]
    priced = [charge for charge in session_time if charge.card != "unpriced"]
    assert 0 < len(priced) < len(session_time)
