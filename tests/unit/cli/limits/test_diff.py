"""The difference between wanted limits and those in force, and the versions it makes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.cli.errors import BadInput
from meterstream.cli.limits.diff import changes, removal
from meterstream.cli.limits.known import KnownLimit, LimitName, fold_limits
from meterstream.cli.limits.wanted import Options, default_id
from meterstream.schemas.control import LimitRemoved, LimitSet, LimitSetData, control_key
from meterstream.schemas.partitions import partition_of
from meterstream.streams.core.batch import Entry

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PARTITIONS = 3


def limit(team: str = "acme", limit_id: str = "a", **values: Any) -> LimitSetData:
    """Return a wanted limit."""
    return LimitSetData.model_validate(
        {
            "team_id": team,
            "limit_id": limit_id,
            "version": 1,
            "subject": "team",
            "measure": "credits",
            "window": "month",
            "amount": 1_000_000,
        }
        | values
    )


def in_force(*events: LimitSet | LimitRemoved) -> dict[LimitName, KnownLimit]:
    """Return what these entries leave, each at the next offset of its partition."""
    ends = dict.fromkeys(range(PARTITIONS), 0)
    entries: list[tuple[int, Entry]] = []
    for event in events:
        partition = partition_of(control_key(event), PARTITIONS)
        value = event.model_dump_json(exclude_none=True).encode()
        entries.append((partition, Entry(ends[partition], 1_000_000, None, value)))
        ends[partition] += 1
    return fold_limits(entries, PARTITIONS)


def applied(
    known: dict[LimitName, KnownLimit], wanted: Sequence[LimitSetData], **kwargs: Any
) -> Any:
    """Return the entries that bring `wanted` about."""
    return [change.event(NOW) for change in changes(known, wanted, **kwargs)]


def test_versions_ascend_over_removals() -> None:
    """A limit that comes back after it was removed gets the version after its removal."""
    log = applied({}, [limit()])
    log += applied(in_force(*log), [limit(amount=2)])
    (name,) = in_force(*log)
    log.append(removal(name, in_force(*log)[name]).event(NOW))
    assert in_force(*log)[name].data is None
    log += applied(in_force(*log), [limit()])
    assert [event.data.version for event in log] == [1, 2, 3, 4]
    assert in_force(*log)[name].data == limit(version=4)


def test_what_the_meter_refuses_is_not_in_force() -> None:
    """An entry whose version does not ascend, that is elsewhere or no event, changes nothing."""
    (first,) = applied({}, [limit(amount=7)])
    stale = LimitSet(id="x", source="/x", time=NOW, data=limit(amount=9))
    partition = partition_of("acme", PARTITIONS)
    value = stale.model_copy(update={"data": limit(version=5)}).model_dump_json().encode()
    entries = [
        (partition, Entry(0, 1, None, first.model_dump_json(exclude_none=True).encode())),
        (partition, Entry(1, 1, None, stale.model_dump_json(exclude_none=True).encode())),
        ((partition + 1) % PARTITIONS, Entry(0, 1, None, value)),
        (partition, Entry(2, 1, None, b'{"type": "meterstream.limit.set.v1"')),
        (partition, Entry(3, 1, None, None)),
    ]
    (known,) = fold_limits(entries, PARTITIONS).values()
    assert known.data is not None
    assert known.data.amount == 7


def test_pruning_stays_with_the_owners_named() -> None:
    """Only limits of the owners in `prune` go; the same again changes nothing."""
    log = applied({}, [limit(limit_id="a"), limit(limit_id="b"), limit("other", "c")])
    known = in_force(*log)
    found = changes(known, [limit(limit_id="a", amount=5)], prune={("acme", "")})
    assert [(change.kind, change.name.limit_id) for change in found] == [
        ("changed", "a"),
        ("removed", "b"),
    ]
    log += [change.event(NOW) for change in found]
    assert changes(in_force(*log), [limit(limit_id="a", amount=5)], prune={("acme", "")}) == []


def test_a_diff_says_what_changes() -> None:
    """Amounts stand in whole credits, and only what differs is told of a change."""
    before = in_force(*applied({}, [limit(amount=1_000_000_000)]))
    (change,) = changes(before, [limit(amount=1_500_500_000, enforcement="hard")])
    assert change.lines() == [
        "~ acme a",
        "    amount: 1,000 -> 1,500.5",
        "    enforcement: soft -> hard",
    ]


@given(
    st.tuples(
        st.sampled_from(["user", "agent"]),
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128),
        st.sampled_from(["tokens", "runs"]),
        st.sampled_from(["day", "month"]),
    ),
    st.tuples(
        st.sampled_from(["user", "agent"]),
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128),
        st.sampled_from(["tokens", "runs"]),
        st.sampled_from(["day", "month"]),
    ),
)
def test_ids_tell_limits_apart(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """The id that a limit gets is that of its words, fits, and is no other limit's."""
    ids = [default_id(*words) for words in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
    assert all(1 <= len(each) <= 64 for each in ids)


def options(**given: Any) -> Options:
    """Return command-line options."""
    subjects = {name: given.pop(name, None) for name in ("user", "agent", "project", "feature")}
    empty = dict.fromkeys(
        ("team", "organisation", "limit_id", "measure", "window", "amount", "alert", "enforcement")
    )
    return Options(**{**empty, **given}, subjects=subjects)


def test_what_is_left_out_stays() -> None:
    """Changing an amount leaves levels and enforcement; a new limit alerts at 100 and is soft."""
    words = {"team": "acme", "measure": "credits", "window": "month"}
    new = options(**words, amount="0.25").data({})
    assert (new.amount, new.alert_levels_permille, new.enforcement) == (250_000, (1000,), "soft")
    hard = options(**words, amount="1", alert="50", enforcement="hard").data({})
    known = in_force(*applied({}, [hard]))
    changed = options(team="acme", limit_id="team-credits-month", amount="2").data(known)
    assert changed == hard.model_copy(update={"amount": 2_000_000})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"amount": "1"}, "--measure is needed"),
        ({"measure": "runs", "amount": "1"}, "--window is needed"),
        ({"measure": "runs", "window": "day"}, "--amount is needed"),
        ({"measure": "runs", "window": "day", "amount": "-1"}, "--amount '-1'"),
        ({"measure": "runs", "window": "day", "amount": "1", "alert": "x"}, "--alert 'x'"),
        ({"measure": "runs", "window": "day", "amount": "1", "user": "a", "agent": "b"}, "--agent"),
        ({"measure": "runs", "window": "balance", "amount": "1"}, "a balance is a team's"),
        ({"measure": "credits", "window": "day", "amount": "1", "limit_id": "credits"}, "balance"),
        ({"organisation": "o", "measure": "runs", "window": "day", "amount": "1"}, "exactly one"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    """What is missing or contradicts itself is named by its option."""
    wanted = options(team="acme", **given)
    with pytest.raises(BadInput, match=said):
        wanted.data({LimitName("", wanted.owner, ""): KnownLimit(1, None, NOW)})
