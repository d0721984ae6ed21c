"""An index of limits that was changed is the one that would have been made anew."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.budget import share

from meterstream.schemas.control import LimitSetData
from meterstream.streams.core.limit_index import Index, Limits
from meterstream.streams.core.limits import Limit, LimitKey
from meterstream.streams.core.totals import Subjects
from meterstream.streams.core.windows import KINDS

a_few = settings(max_examples=share(100), deadline=None)

limits_of = st.builds(
    lambda team, name, user, window, amount, levels, measure: Limit(
        LimitSetData(
            team_id=team,
            limit_id=name,
            version=1,
            subject="user" if user else "team",
            subject_id=user or None,
            measure=measure,
            window=window,
            amount=amount,
            alert_levels_permille=tuple(sorted(levels)),
            enforcement="hard",
        ),
        amount,
    ),
    st.sampled_from("ab"),
    st.sampled_from("klmnopqrstuvwxyz"),
    st.sampled_from(("", "u", "v")),
    st.sampled_from(KINDS),
    st.integers(0, 9),
    st.sets(st.sampled_from((1, 500, 1000)), max_size=3),
    st.sampled_from(("runs", "tokens")),
)
first_ones = st.lists(limits_of, max_size=30, unique_by=lambda one: one.key)
keys_of = st.tuples(st.sampled_from("ab"), st.sampled_from("klmnopqrstuvwxyz"))
changes_of = st.lists(
    st.lists(st.one_of(limits_of, keys_of), min_size=1, max_size=3), min_size=1, max_size=5
)


def contents(index: Index, subjects: Subjects) -> list[object]:
    """Return all that an index says, in the order of the limits' keys."""
    every = np.arange(len(subjects.names))
    rows, which = index.find(every)
    order = np.argsort(index.rank)
    columns = index.columns()
    assert [index.row_of[key] for key in index.keys] == list(range(len(index.keys)))
    assert (np.diff(index.subject) >= 0).all()
    return [
        [index.keys[row] for row in rows],
        which.tolist(),
        [index.limits[row] for row in order],
        index.by_key,
        index.since_us[order].tolist(),
        index.amount[order].tolist(),
        index.hard[order].tolist(),
        index.measure[order].tolist(),
        [index.reached(order, np.full(len(order), used)).tolist() for used in range(10)],
        {name: column.take(order).to_pylist() for name, column in columns.items()},
    ]


@given(first_ones, changes_of, st.booleans())
@a_few
def test_a_changed_index_is_the_one_made_anew(
    first: list[Limit], steps: list[list[Limit | LimitKey]], told: bool
) -> None:
    """Limits are set, set anew for others or in other windows, and removed, some at once."""
    subjects = Subjects()
    limits = Limits({one.key: one for one in first})
    for step in steps:
        for kind in KINDS:
            index = limits.index(kind, subjects)
            if told:
                index.columns()
        changes = {
            (one.key if isinstance(one, Limit) else one): one if isinstance(one, Limit) else None
            for one in step
        }
        limits = limits.changed(changes)
        anew = Limits({one.key: one for one in limits})
        for kind in KINDS:
            assert contents(limits.index(kind, subjects), subjects) == contents(
                anew.index(kind, subjects), subjects
            )
