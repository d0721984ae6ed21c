"""Which limits of organisations apply to a team, against a model that walks upwards each time."""

from hypothesis import given
from hypothesis import strategies as st
from tests.support.limit_states import (
    loaded_gate,
    organisation_entry,
    organisation_heartbeats,
    organisation_limit,
    removed,
    team_entry,
)

TEAMS = ("t1", "t2")
ORGANISATIONS = ("a", "b", "c", "d")
_ORGANISATION = st.sampled_from(ORGANISATIONS)

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("team"), st.sampled_from(TEAMS), _ORGANISATION),
        st.tuples(st.just("parent"), _ORGANISATION, st.one_of(st.none(), _ORGANISATION)),
        st.tuples(st.just("limit"), _ORGANISATION, st.sampled_from(("full", "room", "soft"))),
        st.tuples(st.just("remove"), _ORGANISATION, st.none()),
    ),
    max_size=40,
)


@given(steps=_STEPS)
def test_the_limits_above_a_team_are_those_that_a_plain_walk_finds(
    steps: list[tuple[str, str, str | None]],
) -> None:
    """After each change of the catalog or a limit a check looks at the right organisations."""
    gate = loaded_gate(organisation_heartbeats(1))
    teams: dict[str, str] = {}
    parents: dict[str, str] = {}
    limits: dict[str, str] = {}
    for order, (what, one, other) in enumerate(steps, start=2):
        if what == "team":
            teams[one] = other or ""
            gate.take(team_entry(one, teams[one]))
        elif what == "parent":
            if one == other:
                continue
            parents.pop(one, None)
            parents |= {} if other is None else {one: other}
            gate.take(organisation_entry(one, other))
        elif what == "limit":
            limits[one] = other or ""
            used, enforcement = (
                (10 if other == "full" else 1),
                "soft" if other == "soft" else "hard",
            )
            gate.take(
                organisation_limit(one, used=used, enforcement=enforcement, offset=order),
                organisation_heartbeats(order),
            )
        else:
            limits.pop(one, None)
            gate.take(removed(organisation_limit(one)))
        for team in TEAMS:
            walked: list[str] = []
            at = teams.get(team)
            while at is not None and at not in walked:
                walked.append(at)
                at = parents.get(at)
            decision = gate.check(team)
            expected = [one for one in walked if one in limits]
            assert [told.organisation_id for told in decision.limits] == expected
            full = [one for one in expected if limits[one] == "full"]
            assert [told.organisation_id for told in decision.refused_by] == full
