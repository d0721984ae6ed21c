"""Which catalog entries are taken into the chain, and which are refused and why."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.craft import HOUR, MINUTE, NOW, SECOND, Json, card, entries, envelope, text_of

from meterstream.schemas.registry import parse_event
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import entries as module
from meterstream.streams.core.entries import (
    Entries,
    KeptEntry,
    decode_entries,
    encode_entries,
    judge_catalog,
)

NOTICE = 5 * MINUTE
PRICES = ({"run_micro": 5},)


def organisation(name: str, parent: str | None = None) -> Json:
    """Return the registration of an organisation."""
    data = {"organisation_id": name, "name": "n", "parent_id": parent}
    return envelope("organisation.registered", f"o-{name}", NOW, data)


def plan(version: int = 1, allowance: int = 0) -> Json:
    """Return a version of a plan."""
    data = {"plan_id": "p", "version": version, "name": "n", "tier": "team"}
    return envelope("plan.published", "p", NOW, {**data, "allowance_credits_micro": allowance})


def feature(name: str = "f", *, premium: bool = False) -> Json:
    """Return the registration of a feature."""
    data = {"feature_id": name, "name": "n", "premium": premium}
    return envelope("feature.registered", f"f-{name}", NOW, data)


def agent(name: str, agent_type: str) -> Json:
    """Return the registration of an agent."""
    data = {"agent_id": name, "name": "n", "agent_type": agent_type, "created_by": "u"}
    return envelope("agent.registered", f"a-{name}", NOW, {**data, "created_at": text_of(NOW)})


def judge(
    *events: Json | bytes | None, at_us: int = NOW, known: Entries | None = None
) -> tuple[list[int], list[tuple[int, Verdict, str]]]:
    """Return the offsets of the catalog entries that are taken, and the refusals."""
    taken, rejects = judge_catalog(known or Entries(), entries(*events, at_us=at_us))
    assert all(reject.topic == "catalog" for reject in rejects)
    return [e.offset for e in taken], [(r.offset, r.verdict, r.detail) for r in rejects]


def with_catalog(*events: Json, at_us: int = NOW) -> Entries:
    """Return entries that have taken catalog events."""
    taken, rejects = judge_catalog(Entries(), entries(*events, at_us=at_us))
    assert not rejects
    return Entries().with_taken(taken)


def test_what_the_core_needs_is_kept() -> None:
    """Organisations, teams, agents, features, plans and cards are kept under their keys."""
    team = envelope(
        "team.registered",
        "t",
        NOW,
        {"team_id": "t", "organisation_id": "o", "name": "n", "zone": "UTC"},
    )
    kept = with_catalog(organisation("o"), team, agent("a", "x"), feature(), plan(), card())
    assert list(kept.catalog) == [
        "organisation/o",
        "team/t",
        "agent/a",
        "feature/f",
        "plan/p/1",
        "rate-card/default/1",
    ]
    assert kept.catalog["feature/f"] == KeptEntry(
        3, NOW, '{"specversion":"1.0","id":"f-f","source":"/tests","time":"2026-01-01T00:00:00Z",'
        '"type":"meterstream.feature.registered.v1","data":{"feature_id":"f","name":"n","premium":false}}',
    )  # fmt: skip
    assert kept.book.labels == ["default@1"]
    assert list(kept.cards) == ["rate-card/default/1"]


def test_what_only_reports_need_is_read_and_not_kept() -> None:
    """Users, memberships and projects are well formed entries that the core does not hold on to."""
    user = envelope(
        "user.registered", "u", NOW, {"user_id": "u", "email": "a@b", "display_name": "n"}
    )
    member = envelope(
        "membership.changed", "m", NOW,
        {"user_id": "u", "team_id": "t", "role": "admin", "valid_from": text_of(NOW)},
    )  # fmt: skip
    project = envelope(
        "project.registered", "j", NOW, {"project_id": "j", "team_id": "t", "name": "n"}
    )
    assert judge(user, member, project) == ([], [])


def test_a_later_entry_takes_the_place_of_the_one_before() -> None:
    """Of one key the last entry holds; the others stay as they were."""
    known = with_catalog(feature("a"), feature("b"))
    taken, _ = judge_catalog(known, entries(feature("a", premium=True), first=7))
    after = known.with_taken(taken)
    assert [(key, entry.offset) for key, entry in after.catalog.items()] == [
        ("feature/a", 7),
        ("feature/b", 1),
    ]
    assert known.catalog["feature/a"].offset == 0


def test_nothing_taken_is_the_very_same() -> None:
    """Without new entries nothing is copied."""
    known = with_catalog(feature())
    assert known.with_taken(()) is known
    assert judge_catalog(known, ()) == ([], [])


def test_refusals_name_their_reason() -> None:
    """Each entry that is none is refused with what the models say; its neighbours are taken."""
    stranger = envelope("credits.granted", "g-1", NOW, {"team_id": "team"})
    assert judge(feature("a"), b"{", feature("b"), stranger, b"") == (
        [0, 2],
        [
            (1, Verdict.NOT_JSON, judge(b"{")[1][0][2]),
            (3, Verdict.UNKNOWN_TYPE, judge(stranger)[1][0][2]),
            (4, Verdict.EMPTY, judge(b"")[1][0][2]),
        ],
    )  # fmt: skip


def test_a_removed_entry_is_not_refused() -> None:
    """A null value is what compaction removes: nothing to take, and nothing wrong."""
    assert judge(None, feature()) == ([1], [])


@pytest.mark.parametrize("event", [card(prices=PRICES), plan()], ids=["card", "plan"])
def test_the_same_version_once_more_is_no_news(event: Json) -> None:
    """A card or plan that is published again as it was is neither taken nor refused."""
    again = {**event, "id": "other", "source": "/elsewhere"}
    assert judge(event, again) == ([0], [])
    assert judge(again, known=with_catalog(event)) == ([], [])


@pytest.mark.parametrize(
    ("event", "other"),
    [(card(prices=PRICES), card()), (plan(), plan(allowance=1))],
    ids=["card", "plan"],
)
def test_a_version_is_never_replaced(event: Json, other: Json) -> None:
    """A card or plan of the same name and version with other data is refused; the first holds."""
    refused = [(1, Verdict.NOT_ALLOWED, "data.version: this version was published with other data")]
    assert judge(event, other, plan(9)) == ([0, 2], refused)
    known = with_catalog(event)
    assert judge(plan(9), other, known=known) == ([0], refused)


def test_the_first_card_may_begin_in_the_past() -> None:
    """Where nothing is priced yet, a card may price what is already counted late."""
    assert judge(card(1, 0)) == ([0], [])


@pytest.mark.parametrize(
    ("effective_us", "taken"),
    [(NOTICE, True), (NOTICE - 1, False), (0, False), (-HOUR, False), (HOUR, True)],
)
def test_a_card_that_follows_another_gives_notice(effective_us: int, taken: bool) -> None:
    """A second card begins five minutes after it was published or later, not a microsecond less."""
    offsets, refused = judge(card(1, NOW - HOUR * 2), card(2, NOW + effective_us))
    assert offsets == ([0, 1] if taken else [0])
    if not taken:
        assert refused == [
            (
                1,
                Verdict.NOT_ALLOWED,
                "data.effective_from: must lie five minutes or more after the card is published",
            )
        ]  # fmt: skip


@pytest.mark.parametrize(("first_us", "taken"), [(SECOND, True), (0, False), (-SECOND, False)])
def test_before_the_first_card_begins_another_needs_no_notice(first_us: int, taken: bool) -> None:
    """A card may begin at once while no other one prices anything, now or before it begins."""
    offsets, _ = judge(card(1, NOW + first_us), card(2, NOW - HOUR))
    assert offsets == ([0, 1] if taken else [0])


def test_notice_counts_from_the_brokers_time() -> None:
    """When a card was published is the entry's own log time, not what the event says."""
    assert judge(card(1, NOW - HOUR), card(2, NOW + NOTICE), at_us=NOW + 1)[0] == [0]
    assert judge(card(1, NOW - HOUR), card(2, NOW + NOTICE), at_us=NOW)[0] == [0, 1]


def test_a_card_that_begins_between_others_gives_notice_too() -> None:
    """A new card before one that is announced, and after one in force, changes prices."""
    known = (card(1, NOW - HOUR), card(2, NOW + HOUR))
    assert judge(*known, card(3, NOW + MINUTE))[0] == [0, 1]
    assert judge(*known, card(3, NOW + NOTICE))[0] == [0, 1, 2]


def test_two_cards_do_not_begin_at_once() -> None:
    """Another version that takes effect at the same microsecond is refused."""
    assert judge(card(1, NOW + HOUR), card(2, NOW + HOUR), card(3, NOW + HOUR + 1)) == (
        [0, 2],
        [
            (
                1,
                Verdict.NOT_ALLOWED,
                "data.effective_from: another version takes effect at this time",
            )
        ],
    )


def test_cards_of_other_names_are_other_cards() -> None:
    """A card is compared with those of its own name; only the default one prices runs."""
    known = with_catalog(card(1, NOW - HOUR), card(1, NOW - HOUR, name="special"))
    assert known.book.labels == ["default@1"]
    assert judge(card(2, NOW - HOUR, name="third"), known=known) == ([0], [])
    assert judge(card(2, NOW - HOUR, name="special"), known=known)[0] == []


def test_a_card_joins_the_book_with_its_lines() -> None:
    """The book knows each card that was taken, and stays the same where none is new."""
    known = with_catalog(card(1, NOW, prices=PRICES))
    taken, _ = judge_catalog(known, entries(card(2, NOW + HOUR), feature(), first=5))
    after = known.with_taken(taken)
    assert [
        (one.data.version, one.effective_us, one.data.prices[0].run_micro)
        for one in after.book.cards
    ] == [
        (1, NOW, 5),
        (2, NOW + HOUR, 0),
    ]
    assert after.with_taken(taken[1:]).book.cards is after.book.cards
    assert len(known.book.cards) == 1


def test_agents_and_premium_features_are_known_to_the_book() -> None:
    """The last word on an agent or a feature holds, and the entries before stay as they were."""
    known = with_catalog(agent("a", "x"), agent("b", "y"), feature("f", premium=True))
    taken, _ = judge_catalog(
        known, entries(agent("a", "z"), feature("f"), feature("g", premium=True))
    )
    after = known.with_taken(taken)
    assert (known.agent_types, known.premium) == ({"a": "x", "b": "y"}, frozenset({"f"}))
    assert (after.agent_types, after.premium) == ({"a": "z", "b": "y"}, frozenset({"g"}))
    assert [entries.book.type_of("a") for entries in (known, after)] == ["x", "z"]
    assert after.book.type_of("nobody") == ""


def test_all_versions_of_a_card_are_in_one_currency() -> None:
    """Another currency is refused; versions without prices in money may stand between."""

    def version(number: int, currency: str | None, name: str = "default") -> Json:
        made = card(number, NOW + number * HOUR, name=name)
        return {**made, "data": {**made["data"], "currency": currency}}

    detail = (
        "data.currency: default@2 is in USD, and all versions of a card are in one currency;"
        " publish it under another name"
    )
    assert judge(
        version(1, None), version(2, "USD"), version(3, "EUR"), version(4, None), version(5, "USD"),
        version(1, "EUR", "other"),
    ) == (
        [0, 1, 3, 4, 5],
        [(2, Verdict.NOT_ALLOWED, detail)],
    )  # fmt: skip


def test_an_organisation_is_not_part_of_its_own_part() -> None:
    """A parent that lies below the organisation, at any depth, is refused."""
    detail = "data.parent_id: is itself part of the organisation"
    chain = [
        organisation("a"),
        organisation("b", "a"),
        organisation("c", "b"),
        organisation("d", "c"),
    ]
    for parent in "bcd":
        assert judge(*chain, organisation("a", parent)) == (
            [0, 1, 2, 3],
            [(4, Verdict.NOT_ALLOWED, detail)],
        )
        assert judge(organisation("a", parent), known=with_catalog(*chain)) == (
            [],
            [(0, Verdict.NOT_ALLOWED, detail)],
        )
    assert judge(*chain, organisation("b", "d"))[0] == [0, 1, 2, 3]
    assert judge(*chain, organisation("d", "b"), organisation("c", "d"))[0] == [0, 1, 2, 3, 4, 5]
    assert judge(*chain, organisation("d", "b"), organisation("c", "a"))[0] == [0, 1, 2, 3, 4, 5]


def test_organisations_may_arrive_before_their_parents() -> None:
    """A parent that is not known yet closes no circle; when it arrives, it may not close one."""
    assert judge(organisation("b", "a"), organisation("a")) == ([0, 1], [])
    assert judge(organisation("b", "a"), organisation("a", "b"))[0] == [0]
    assert judge(organisation("b", "a"), organisation("a", "c"), organisation("c", "b"))[0] == [
        0,
        1,
    ]


def test_an_organisation_may_move() -> None:
    """A part that has left may take in what it was a part of, in the same record or a later one."""
    events = [organisation("a"), organisation("b", "a"), organisation("b"), organisation("a", "b")]
    assert judge(*events) == ([0, 1, 2, 3], [])
    known = with_catalog(*events[:3])
    assert known.parents == {}
    assert judge(events[3], known=known) == ([0], [])
    assert with_catalog(*events).parents == {"a": "b"}


def test_a_large_catalog_is_taken_in_linear_time() -> None:
    """What is known is not copied for each entry: only once for all that arrive together."""
    copies = 0

    class Counted(dict[str, KeptEntry]):
        def keys(self) -> Any:
            nonlocal copies
            copies += 1
            return super().keys()

        def __iter__(self) -> Iterator[str]:  # so that a copy asks for the keys
            return super().__iter__()

    known = Entries(Counted(with_catalog(*(feature(str(i)) for i in range(10))).catalog))
    taken, _ = judge_catalog(known, entries(*(feature(str(i)) for i in range(50))))
    known.with_taken(taken)
    assert len(taken) == 50
    assert copies == 1


def test_an_entry_on_which_the_meter_fails_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is one entry's; the others are taken."""

    def fail(value: bytes | None, topic: str) -> object:
        if value is not None and b"f-bad" in value:
            raise ZeroDivisionError
        return parse_event(value, topic)

    monkeypatch.setattr(module, "parse_event", fail)
    detail = "the meter failed on this entry (ZeroDivisionError); publish it again after an upgrade"
    assert judge(feature("a"), feature("bad"), feature("b")) == (
        [0, 2],
        [(1, Verdict.INTERNAL, detail)],
    )


def test_a_lack_of_memory_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry is refused because the machine was out of memory."""

    def fail(value: bytes | None, topic: str) -> object:
        raise MemoryError

    monkeypatch.setattr(module, "parse_event", fail)
    with pytest.raises(MemoryError):
        judge(feature())


def test_entries_survive_as_bytes() -> None:
    """Entries come back from JSON with their offsets, times and texts, in order."""
    some = [KeptEntry(5, NOW, '{"a":"büro 😀"}'), KeptEntry(2, 0, "{}")]
    assert (
        encode_entries(some)
        == f'[[5, {NOW}, "{{\\"a\\":\\"b\\u00fcro \\ud83d\\ude00\\"}}"], [2, 0, "{{}}"]]'.encode()
    )
    assert decode_entries(memoryview(encode_entries(some))) == some
    assert decode_entries(encode_entries([])) == []
