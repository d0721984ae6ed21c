"""Accounts of several teams whose charges and boundaries meet in one record."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.budget import share
from tests.support.core_runner import read_table
from tests.support.craft import DAY, HOUR, NOW, Json, Partition, entries, envelope, run, text_of

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.streams.core import Step
from meterstream.streams.core.accounts import Account

TEAMS = ("a", "b", "c")
spans = st.sampled_from((0, 1, HOUR, DAY, 3 * DAY, 9 * DAY))
grants = st.lists(
    st.tuples(
        st.sampled_from(TEAMS), st.integers(1, 2_000), spans, st.none() | spans, st.integers(1, 2)
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip
charges = st.lists(
    st.tuples(st.sampled_from(TEAMS), st.integers(0, 500), spans, spans), min_size=1, max_size=12
)
cuts = st.sets(st.integers(0, 12))


def granted(given_grants: Sequence[tuple[str, int, int, int | None, int]]) -> list[Json]:
    """Return the grants; those that start later end later still."""
    return [
        envelope(
            "credits.granted",
            f"g-{i}",
            NOW,
            {
                "team_id": team, "grant_id": f"g-{i}", "kind": "funded", "amount_micro": amount,
                "priority": priority, "starts_at": text_of(NOW + start),
                **({} if end is None else {"expires_at": text_of(NOW + start + end + HOUR)}),
            },
        )
        for i, (team, amount, start, end, priority) in enumerate(given_grants)
    ]  # fmt: skip


def metered(
    given_grants: Sequence[tuple[str, int, int, int | None, int]],
    given_charges: Sequence[tuple[str, int, int, int]],
    borders: set[int],
) -> tuple[dict[str, Account], Counter[str]]:
    """Return the accounts after all charges, and what the records say was drawn by team."""
    partition = Partition()
    steps: list[Step] = [partition.take(control=entries(*granted(given_grants)))]
    part: list[Json] = []
    times: list[int] = []
    clock_us = NOW
    for i, (team, amount, span, early) in enumerate(given_charges):
        clock_us += span
        at_us = max(clock_us - early, clock_us - 20 * HOUR)
        part.append(run(f"e-{i}", at_us, team_id=team, credits_micro=amount))
        times.append(clock_us)
        if i in borders or i == len(given_charges) - 1:
            steps.append(partition.take(*part, at_us=times))
            part, times = [], []
    partition.idle(clock_us + 30 * DAY)
    while partition.state.is_due:
        steps.append(partition.take_batch(None))
    drawn: Counter[str] = Counter()
    for step in steps:
        section = unpack_sections(step.value).get(Section.DRAWS)
        for row in read_table(section) if section is not None else ():
            if row["charge"] >= 0:
                drawn[row["team_id"]] += row["amount_micro"]
    return {one.team_id: one for one in partition.state.ledger}, drawn


@given(grants, charges, cuts)
@example([("a", 1_000, 0, 9 * DAY, 1)], [("a", 300, HOUR, 0), ("b", 5, 3 * DAY, 0)], set())
@settings(max_examples=share(60), deadline=None)
def test_borders_make_no_difference(
    given_grants: list[tuple[str, int, int, int | None, int]],
    given_charges: list[tuple[str, int, int, int]],
    borders: set[int],
) -> None:
    """Every account is the same whatever shares a record, and its draws are what it has drawn."""
    found, drawn = metered(given_grants, given_charges, borders)
    alone, _ = metered(given_grants, given_charges, set(range(len(given_charges))))
    assert found == alone
    for account in found.values():
        assert account.difference == 0
        assert account.drawn == drawn[account.team_id]
