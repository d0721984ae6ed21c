"""Accounts where something begins, ends or is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.core_runner import read_table
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Json,
    Partition,
    adjustment,
    entries,
    envelope,
    rejects,
    run,
    text_of,
    void,
)

from meterstream.schemas.journal import MalformedRecord, Section, unpack_sections
from meterstream.streams.core import checks
from meterstream.streams.core.accounts import Account
from meterstream.streams.core.ledger import Ledger
from meterstream.streams.core.ledger_rows import WrittenAccounts, decode_ledger, read_accounts

JANUARY = 31 * DAY


def grant(team: str = "team", **data: Any) -> Json:
    """Return a grant of 1,000."""
    given = {"team_id": team, "grant_id": "g", "kind": "funded", "amount_micro": 1_000, **data}
    return envelope("credits.granted", f"{team}-g", NOW, given)


def plan(name: str, allowance: int) -> Json:
    """Return a plan."""
    data = {
        "plan_id": name, "version": 1, "name": name, "tier": "team",
        "allowance_credits_micro": allowance,
    }  # fmt: skip
    return envelope("plan.published", name, NOW, data)


def subscription(name: str, starts_at: str, **data: Any) -> Json:
    """Return a subscription to a plan."""
    given = {"team_id": "team", "plan_id": name, "plan_version": 1, "starts_at": starts_at, **data}
    return envelope("subscription.changed", f"{name}-{starts_at}", NOW, given)


def planned() -> Partition:
    """Return a partition that knows a small and a big plan."""
    partition = Partition()
    partition.take(catalog=entries(plan("small", 1_000), plan("big", 3_000)))
    return partition


def account(partition: Partition, team: str = "team") -> Account:
    """Return the account of a team."""
    found = partition.state.ledger.get(team)
    assert found is not None
    return found


def test_a_draw_and_a_boundary_in_one_record() -> None:
    """A charge stays drawn where another team's event brings the clock past its grant's warning."""
    partition = Partition()
    partition.take(control=entries(grant("a", expires_at=text_of(NOW + 8 * DAY))))
    before, after = NOW + DAY - SECOND, NOW + DAY + SECOND
    partition.take(
        run("r-1", before, team_id="a", credits_micro=300),
        run("r-2", after, team_id="b"),
        at_us=[before, after],
    )
    assert (account(partition, "a").left, account(partition, "a").drawn) == (700, 300)


@pytest.mark.parametrize(
    ("starts_at", "zone"),
    [("9999-12-31T23:59:59Z", "Asia/Tokyo"), ("0001-01-01T00:00:00Z", "America/Los_Angeles")],
)
def test_a_subscription_at_the_calendars_edge(starts_at: str, zone: str) -> None:
    """It is refused, and stops nobody."""
    partition = planned()
    step = partition.take(control=entries(subscription("small", starts_at, zone=zone)))
    ((_, _, _, detail),) = rejects(step)
    assert "between 1971 and 2298" in detail


def test_what_is_over_when_it_arrives() -> None:
    """A grant that has expired and a subscription that has ended are refused."""
    partition = planned()
    partition.idle(NOW + 2 * HOUR)
    step = partition.take(
        control=entries(
            grant(expires_at=text_of(NOW + HOUR)),
            subscription("small", text_of(NOW - DAY), ends_at=text_of(NOW + HOUR)),
        )
    )
    assert ["lies in the past" in detail for *_, detail in rejects(step)] == [True, True]
    assert partition.state.ledger.get("team") is None


def test_a_subscription_that_is_ended() -> None:
    """The one in force ends at once if the same start is sent with an end that has passed."""
    partition = planned()
    start = text_of(NOW)
    partition.take(control=entries(subscription("small", start)))
    partition.idle(NOW + DAY)
    ended = subscription("small", start, ends_at=text_of(NOW + HOUR))
    step = partition.take(control=entries(ended, first=1))
    assert rejects(step) == []
    assert (account(partition).term, account(partition).left) == (None, 0)


def subscribed(*told: Json) -> Partition:
    """Return a partition whose team has the big plan from NOW on and then is told of others."""
    partition = planned()
    partition.take(control=entries(subscription("big", text_of(NOW)), *told))
    return partition


def at(partition: Partition, time_us: int) -> tuple[str | None, int, int]:
    """Return the plan in force at a time, what was granted by then, and what is left."""
    partition.idle(time_us)
    while partition.state.is_due:
        partition.take_batch(None)
    found = account(partition)
    plan_id = None if found.term is None else found.term.plan_id
    return plan_id, found.granted, found.left


def test_a_smaller_plan_for_a_time() -> None:
    """The bigger one that still runs holds again when it ends, and is not left before its month."""
    start, end = text_of(NOW + 9 * DAY), text_of(NOW + 19 * DAY)
    partition = subscribed(subscription("small", start, ends_at=end))
    assert at(partition, NOW + 20 * DAY) == ("big", 3_000, 3_000)
    assert at(partition, NOW + JANUARY) == ("big", 6_000, 3_000)
    end = text_of(NOW + JANUARY + 14 * DAY)
    partition = subscribed(subscription("small", start, ends_at=end))
    assert at(partition, NOW + JANUARY) == ("small", 4_000, 1_000)
    half = 2_000 * 14 // 28
    assert at(partition, NOW + JANUARY + 14 * DAY) == ("big", 4_000 + half, 1_000 + half)


def test_a_bigger_plan_for_a_time() -> None:
    """It adds its difference for that time; then the smaller one holds again, at once."""
    partition = planned()
    start, end = text_of(NOW + 10 * DAY), text_of(NOW + 20 * DAY)
    partition.take(control=entries(subscription("small", text_of(NOW))))
    partition.take(control=entries(subscription("big", start, ends_at=end), first=1))
    more = 2_000 * 10 // 31
    assert at(partition, NOW + 10 * DAY) == ("big", 1_000 + more, 1_000 + more)
    assert at(partition, NOW + 20 * DAY) == ("small", 1_000 + more, 1_000 + more)
    assert at(partition, NOW + JANUARY) == ("small", 2_000 + more, 1_000)


def test_plans_back_to_back() -> None:
    """A plan that begins where one ends goes on with its period."""
    partition = planned()
    middle = text_of(NOW + 10 * DAY)
    partition.take(
        control=entries(
            subscription("big", text_of(NOW), ends_at=middle), subscription("small", middle)
        )
    )
    assert at(partition, NOW + 10 * DAY) == ("small", 3_000, 3_000)
    assert at(partition, NOW + JANUARY) == ("small", 4_000, 1_000)


def test_a_subscription_that_is_cancelled() -> None:
    """One to come leaves nothing behind; one in force ends; one that is not there is refused."""
    start = text_of(NOW + 10 * DAY)
    cancelled = subscription("small", start, ends_at=start)
    partition = planned()
    partition.take(control=entries(subscription("small", start), cancelled))
    assert at(partition, NOW + 60 * DAY) == (None, 0, 0)
    assert not account(partition).has_begun
    step = partition.take(
        control=entries(subscription("big", start, team_id="other", ends_at=start), first=2)
    )
    ((_, _, _, detail),) = rejects(step)
    assert detail.endswith("none to cancel")
    partition = subscribed()
    now = text_of(NOW)
    step = partition.take(control=entries(subscription("big", now, ends_at=now), first=1))
    assert rejects(step) == []
    assert (account(partition).term, account(partition).left) == (None, 0)


def test_a_plan_that_is_cancelled_and_taken_again_at_once() -> None:
    """Two periods that begin at one moment have allowances of two names."""
    now = text_of(NOW)
    cancelled = subscription("big", now, ends_at=now)
    partition = subscribed(cancelled, subscription("big", text_of(NOW - SECOND)))
    (only,) = account(partition).open
    rows = read_table(unpack_sections(partition.journal[-1][3])[Section.GRANTS])
    assert [(row["grant_id"] == only.grant_id, row["left_micro"]) for row in rows] == [
        (False, 0),
        (True, 3_000),
    ]


@pytest.mark.parametrize("first_anchor", [None, 1])
def test_an_upgrade_keeps_the_anchor_of_the_period(first_anchor: int | None) -> None:
    """A subscription that names no day goes on with the team's: one allowance a month."""
    partition = planned()
    anchor = {} if first_anchor is None else {"anchor_day": first_anchor}
    partition.take(control=entries(subscription("small", text_of(NOW), **anchor)))
    partition.idle(NOW + 10 * DAY)
    upgrade = subscription("big", text_of(NOW + 10 * DAY))
    partition.take(control=entries(upgrade, first=1))
    more = 2_000 * (JANUARY - 10 * DAY) // JANUARY
    assert account(partition).granted == 1_000 + more
    for at_us, granted in (
        (NOW + JANUARY, 4_000 + more),
        (NOW + JANUARY + 11 * DAY, 4_000 + more),
        (NOW + JANUARY + 28 * DAY, 7_000 + more),
    ):
        partition.idle(at_us)
        if partition.state.is_due:
            partition.take_batch(None)
        assert account(partition).granted == granted


def test_what_was_used_before_an_account_began() -> None:
    """It is not drawn, however late it arrives, and its void gives nothing back."""
    partition = Partition()
    late = run("r-1", NOW - MINUTE, credits_micro=300)
    counted_before = run("r-2", NOW + 2 * SECOND, credits_micro=300)
    partition.take(counted_before)
    partition.take(control=entries(grant()))
    since_us = account(partition).since_us
    assert since_us >= NOW
    partition.take(late, at_us=NOW + HOUR)
    assert account(partition).drawn == 0
    partition.take(control=entries(void(late), first=1))
    assert (account(partition).balance, account(partition).drawn) == (1_000, 0)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_run_from_ahead_of_the_account(restarts: bool) -> None:
    """One that was counted before it, by a clock that is ahead, is neither drawn nor given back."""
    partition = Partition()
    ahead = run("r-1", NOW + MINUTE, credits_micro=300)
    partition.take(ahead)
    if restarts:
        partition = partition.restarted(partition.policy)
    step = partition.take(control=entries(grant()))
    assert account(partition).since_us == NOW + MINUTE + 1
    assert partition.state.ledger.ahead == {"team": NOW + MINUTE}
    step = partition.take(control=entries(void(ahead), first=1))
    assert rejects(step) == []
    assert (account(partition).balance, account(partition).drawn) == (1_000, 0)
    partition.take(run("r-2", NOW + 2 * MINUTE, credits_micro=300), at_us=NOW + 2 * MINUTE)
    assert (account(partition).balance, partition.state.ledger.ahead) == (700, {})


def test_a_run_from_ahead_of_an_account_that_time_begins() -> None:
    """It is not given back either where the clock passes its time and that of the first grant."""
    partition = Partition()
    partition.take(control=entries(grant(starts_at=text_of(NOW + SECOND))))
    ahead, other = (run(f"r-{i}", NOW + i * MINUTE, credits_micro=300) for i in (1, 9))
    partition.take(ahead)
    partition.idle(NOW + HOUR)
    partition.take(other, at_us=NOW + HOUR, control=entries(void(ahead), first=1))
    found = account(partition)
    assert (found.since_us, found.balance, found.drawn) == (NOW + MINUTE + 1, 700, 300)
    assert partition.state.ledger.ahead == {}


def test_more_than_was_drawn_is_not_given_back() -> None:
    """A correction that takes back more than the account ever paid is refused, also with others."""
    partition = Partition()
    partition.take(control=entries(grant()))
    runs = [run(f"r-{i}", NOW + SECOND, run_id=f"r-{i}", credits_micro=100) for i in range(2)]
    partition.take(*runs, at_us=NOW + SECOND)
    step = partition.take(
        control=entries(
            adjustment(runs[0], 1, credits_micro=-201),
            adjustment(runs[0], 1, credits_micro=-100),
            adjustment(runs[1], 1, credits_micro=-101),
            adjustment(runs[1], 1, credits_micro=50),
            adjustment(runs[1], 2, credits_micro=-150),
            first=1,
        )
    )
    assert [row[1] for row in rejects(step)] == [1, 3]
    assert all("takes back more than the team was ever" in detail for *_, detail in rejects(step))
    assert (account(partition).balance, account(partition).drawn) == (1_000, 0)


@pytest.mark.parametrize("becomes", ["nothing", "one of the day"])
def test_a_limit_that_was_one_on_the_balance(becomes: str) -> None:
    """It is told that it holds there no more, before where it stands now."""
    limit = {
        "team_id": "team", "limit_id": "l", "subject": "team", "measure": "credits",
        "amount": 100, "version": 1, "window": "balance",
    }  # fmt: skip
    partition = Partition()
    set_ = envelope("limit.set", "l-1", NOW, limit)
    partition.take(control=entries(grant(), set_))
    removed = {"team_id": "team", "limit_id": "l", "version": 2}
    entry = envelope("limit.removed", "l-2", NOW, removed)
    if becomes != "nothing":
        entry = envelope("limit.set", "l-2", NOW, {**limit, "version": 2, "window": "day"})
    step = partition.take(control=entries(entry, first=2))
    rows = read_table(unpack_sections(step.value)[Section.LIMIT_STATES])
    assert [
        (row["window"], row["removed"], row["limit_version"])
        for row in rows
        if row["limit_id"] == "l"
    ] == [("balance", 1, 1)] + ([("day", 0, 2)] if becomes != "nothing" else [])


def test_a_limit_that_becomes_one_on_the_balance() -> None:
    """What was told of its window is taken back, so nobody stays blocked by it."""
    limit = {
        "team_id": "team", "limit_id": "l", "subject": "team", "measure": "credits",
        "amount": 100,
    }  # fmt: skip
    partition = Partition()
    hard = {**limit, "version": 1, "window": "day", "enforcement": "hard"}
    partition.take(control=entries(envelope("limit.set", "l-1", NOW, hard)))
    partition.take(run(credits_micro=200))
    soft = {**limit, "version": 2, "window": "balance"}
    step = partition.take(control=entries(envelope("limit.set", "l-2", NOW, soft), first=1))
    sections = unpack_sections(step.value)
    (row,) = read_table(sections[Section.LIMIT_STATES])
    assert (row["limit_id"], row["removed"], row["blocked"]) == ("l", 1, 0)
    assert [one["kind"] for one in json.loads(bytes(sections[Section.CROSSINGS]))] == ["reset"]


@pytest.mark.parametrize("start", [{}, {"starts_at": text_of(NOW + HOUR)}])
def test_more_than_can_be_counted_is_not_granted(
    start: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, in one record or two, also if it starts later."""
    monkeypatch.setattr(checks, "MAX_GRANTED_MICRO", 3_999)
    told = [grant(grant_id=f"g-{i}", **start) for i in range(4)]
    partition = planned()
    step = partition.take(control=entries(*told[:3]))
    assert rejects(step) == []
    subscribed = subscription("small", text_of(NOW))
    step = partition.take(control=entries(told[3], subscribed, first=3))
    assert ["would be granted more than" in detail for *_, detail in rejects(step)] == [True, True]
    step = Partition().take(control=entries(*told))
    assert [offset for _, offset, _, _ in rejects(step)] == [3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda written: written.terms["team"].pop("begun"), "another release wrote it"),
        (lambda written: written.terms["team"].update(term={"x": 1}), "another release wrote it"),
        (lambda written: written.accounts[0].update(left_micro=5), "does not add up"),
    ],
    ids=["no subscriptions", "a strange subscription", "another sum"],
)
def test_what_cannot_be_read_of_accounts_is_malformed(
    change: Callable[[WrittenAccounts], object], reason: str
) -> None:
    """A reader stops there with the reason, and not in the middle of something."""
    partition = planned()
    step = partition.take(control=entries(subscription("small", "2025-01-01T00:00:00Z")))
    written = decode_ledger(unpack_sections(step.value))
    assert written is not None
    assert [one.team_id for one in read_accounts(Ledger(), written)] == ["team"]
    change(written)
    with pytest.raises(MalformedRecord, match=reason):
        read_accounts(Ledger(), written)
