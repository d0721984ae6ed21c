"""Which control entries are taken into the chain, and the limits that are in force after them."""

import pytest
from tests.support.craft import NOW, Json, card, entries, envelope

from meterstream.schemas.control import ControlEvent
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import Owners
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import control as module
from meterstream.streams.core.control import Control, judge_control
from meterstream.streams.core.entries import EntryReject


def nothing_wrong(event: ControlEvent, replaces: bool) -> None:
    """Take what an event is about, a run or a plan, for known."""


def grant(team: str = "team", grant_id: str = "g", amount: int = 5) -> Json:
    """Return a grant of credits."""
    data = {"team_id": team, "grant_id": grant_id, "kind": "funded", "amount_micro": amount}
    return envelope("credits.granted", "g-1", NOW, data)


def limit(**owner: str) -> Json:
    """Return a limit of a team or an organisation."""
    data = {
        "limit_id": "l",
        "version": 1,
        "subject": "organisation" if "organisation_id" in owner else "team",
        "measure": "runs",
        "window": "day",
        "amount": 5,
        **owner,
    }
    return envelope("limit.set", "l-1", NOW, data)


def control(
    *events: Json | bytes | None,
    partition: int = 0,
    partitions: int = 1,
    owners: Owners = "teams",
) -> tuple[list[int], list[EntryReject]]:
    """Return the offsets of the control entries that are taken, and the refusals."""
    taken, rejects = judge_control(
        Control(), entries(*events, at_us=NOW + 7), partition, partitions, nothing_wrong, owners
    )
    assert all(entry.log_time_us == NOW + 7 for entry in taken)
    return [entry.offset for entry in taken], rejects


def test_control_entries_are_taken_in_order() -> None:
    """Each event of control is kept with its offset and time."""
    assert control(grant(), limit(team_id="team"), grant(grant_id="h")) == ([0, 1, 2], [])
    two = entries(grant(), grant(grant_id="h"))
    taken, _ = judge_control(Control(), two, 0, 1, nothing_wrong)
    kept = Control().with_taken(taken[:1]).with_taken(taken[1:])
    assert list(kept.kept.values()) == taken
    assert '"grant_id":"g"' in taken[0].event


def test_a_grant_is_taken_once() -> None:
    """The same once more is passed over, together and later; its id with other data is refused."""
    assert control(grant(), grant()) == ([0], [])
    offsets, (reject,) = control(grant(), grant(amount=6))
    assert (offsets, reject.verdict) == ([0], Verdict.NOT_ALLOWED)
    assert reject.detail.startswith("data.grant_id: the team has a grant of this id")
    known = after(grant())
    assert judge_control(known, entries(grant()), 0, 1, nothing_wrong) == ([], [])
    _, rejects = judge_control(known, entries(grant(amount=6)), 0, 1, nothing_wrong)
    assert len(rejects) == 1


def test_control_entries_are_refused_with_their_reason() -> None:
    """What is no control event is refused, a null value too, and its neighbours are taken."""
    offsets, rejects = control(grant(), card(), None, b"[]", grant(grant_id="h"))
    assert offsets == [0, 4]
    assert [(r.topic, r.offset, r.verdict) for r in rejects] == [
        ("control", 1, Verdict.UNKNOWN_TYPE),
        ("control", 2, Verdict.NULL_VALUE),
        ("control", 3, Verdict.NOT_AN_OBJECT),
    ]


def test_control_entries_belong_to_the_partition_of_their_key() -> None:
    """A team's entry stands with its team, an organisation's limit with its organisation."""
    cases: tuple[tuple[Json, str, Owners], ...] = (
        (grant("team-1"), "team-1", "teams"),
        (limit(organisation_id="org-1"), "org-1", "organisations"),
    )
    for event, key, owners in cases:
        home = partition_of(key, 7)
        assert control(event, partition=home, partitions=7, owners=owners) == ([0], [])
        for elsewhere in set(range(7)) - {home}:
            offsets, (reject,) = control(event, partition=elsewhere, partitions=7, owners=owners)
            assert offsets == []
            assert (reject.verdict, reject.offset) == (Verdict.WRONG_PARTITION, 0)


@pytest.mark.parametrize("owners", ["teams", "organisations"])
def test_each_meter_takes_what_is_its_own(owners: Owners) -> None:
    """What is for the other one is passed over; what nobody can read is refused by one of them."""
    events = [grant(), limit(organisation_id="o"), {"type": "?"}, limit(team_id="t")]
    offsets, rejects = control(*events, owners=owners)
    assert offsets == ([0, 3] if owners == "teams" else [1])
    assert [one.offset for one in rejects] == ([2] if owners == "teams" else [])


def set_limit(version: int = 1, amount: int = 5) -> Json:
    """Return a version of the limit `l` of the team `team`."""
    event = limit(team_id="team")
    event["data"] |= {"version": version, "amount": amount}
    return event


def remove_limit(version: int) -> Json:
    """Return the end of that limit."""
    data = {"team_id": "team", "limit_id": "l", "version": version}
    return envelope("limit.removed", f"r-{version}", NOW, data)


def after(*events: Json) -> Control:
    """Return what is known after entries that are all taken."""
    incoming = entries(*events)
    taken, rejects = judge_control(Control(), incoming, 0, 1, nothing_wrong)
    assert (len(taken), rejects) == (len(events), [])
    return Control().with_taken(taken)


def test_the_last_version_of_a_limit_is_in_force() -> None:
    """One entry is kept of each limit, whatever came before it; a removed one is remembered."""
    known = after(set_limit(1), set_limit(2, 7))
    found = known.limits.get(("team", "l"))
    assert found is not None
    assert (found.data.amount, found.data.version, found.since_us) == (7, 2, NOW)
    assert (len(known.kept), len(known.limits)) == (1, 1)
    gone = known.with_taken(judge_control(known, entries(remove_limit(3)), 0, 1, nothing_wrong)[0])
    assert (gone.limits.get(("team", "l")), gone.versions[("team", "l")]) == (None, 3)
    assert len(gone.kept) == 1


@pytest.mark.parametrize(
    ("before", "event", "reason"),
    [
        ([set_limit(2)], set_limit(1), "data.version: must be above 2"),
        ([set_limit(2)], set_limit(2, 9), "data.version: must be above 2"),
        ([set_limit(1)], remove_limit(1), "data.version: must be above 1"),
        ([], remove_limit(1), "data.limit_id: there is no such limit"),
        ([set_limit(1), remove_limit(2)], set_limit(2), "data.version: must be above 2"),
        ([set_limit(1), remove_limit(2)], remove_limit(3), "data.limit_id: there is no such"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_versions_of_a_limit_ascend(
    before: list[Json], event: Json, reason: str, *, together: bool
) -> None:
    """An older version, other data under the same one and the end of nothing are refused."""
    if together:
        _, rejects = judge_control(Control(), entries(*before, event), 0, 1, nothing_wrong)
    else:
        _, rejects = judge_control(after(*before), entries(event), 0, 1, nothing_wrong)
    (reject,) = rejects
    assert reject.verdict is Verdict.NOT_ALLOWED
    assert reason in reject.detail


def test_a_version_that_is_sent_again_changes_nothing() -> None:
    """The same entry once more is neither taken nor refused."""
    for again in (set_limit(1), remove_limit(2)):
        before = [set_limit(1)] if again["type"].endswith("set.v1") else [set_limit(1), again]
        assert judge_control(after(*before), entries(again), 0, 1, nothing_wrong) == ([], [])


def test_an_entry_on_which_the_meter_fails_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is one entry's; the others are taken."""

    def fail(value: bytes | None, topic: str) -> object:
        if value is not None and b"team-bad" in value:
            raise ZeroDivisionError
        return parse_event(value, topic)

    monkeypatch.setattr(module, "parse_event", fail)
    detail = "the meter failed on this entry (ZeroDivisionError); publish it again after an upgrade"
    assert control(grant(), grant("team-bad")) == (
        [0],
        [EntryReject("control", 1, Verdict.INTERNAL, detail)],
    )


def test_a_lack_of_memory_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry is refused because the machine was out of memory."""

    def fail(value: bytes | None, topic: str) -> object:
        raise MemoryError

    monkeypatch.setattr(module, "parse_event", fail)
    with pytest.raises(MemoryError):
        control(grant())
