"""Whatever order records come in, and whatever compaction leaves, the newest state holds."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from tests.support.limit_states import Record, heartbeat, limit, loaded_gate, removed

from meterstream.schemas.partitions import partition_of

LIMITS = ("a", "b", "c")
PARTITION = partition_of("team-1", 4)

_Told = tuple[str, int, int, bool]
"""Limit, generation, journal offset, whether it blocks."""


def _state(limit_id: str, generation: int, offset: int, blocked: bool) -> Record:
    return limit(limit_id=limit_id, generation=generation, offset=offset, used=10 if blocked else 1)


def _blocks(gate_limits: tuple[object, ...]) -> dict[str, bool]:
    return {one.limit_id: one.refuses for one in gate_limits}  # type: ignore[attr-defined]


@given(
    told=st.dictionaries(
        st.tuples(st.sampled_from(LIMITS), st.integers(1, 3), st.integers(0, 9)), st.booleans()
    ),
    data=st.data(),
)
def test_the_newest_state_holds_in_any_order(
    told: dict[tuple[str, int, int], bool], data: st.DataObject
) -> None:
    """After each record a limit stands as the newest one told so far says, repeats or not."""
    records: list[_Told] = [(*place, blocked) for place, blocked in told.items()]
    repeated = data.draw(st.lists(st.sampled_from(records), max_size=10)) if records else []
    order = data.draw(st.permutations([*records, *repeated]))
    gate = loaded_gate()
    newest: dict[str, tuple[tuple[int, int], bool]] = {}
    for limit_id, generation, offset, blocked in order:
        gate.take(_state(limit_id, generation, offset, blocked))
        place = (generation, offset)
        if limit_id not in newest or newest[limit_id][0] < place:
            newest[limit_id] = (place, blocked)
        expected = {name: blocks for name, (_, blocks) in newest.items()}
        assert _blocks(gate.check("team-1").limits) == expected


@dataclass
class _Log:
    """A log as the publisher writes it, and how each limit stands at its end."""

    records: list[Record]
    stands: dict[str, bool]


@st.composite
def _logs(draw: st.DrawFn) -> _Log:
    records: list[Record] = []
    stands: dict[str, bool] = {}
    for offset in range(1, draw(st.integers(2, 30))):
        limit_id = draw(st.sampled_from(LIMITS))
        what = draw(st.sampled_from(("admits", "blocks", "removed", "heartbeat")))
        if what == "removed":
            records.append(removed(_state(limit_id, 1, offset, blocked=False)))
            stands.pop(limit_id, None)
        elif what == "heartbeat":
            records.append(heartbeat(PARTITION, offset))
        else:
            records.append(_state(limit_id, 1, offset, what == "blocks"))
            stands[limit_id] = what == "blocks"
    return _Log([*records, heartbeat(PARTITION, 100)], stands)


def _compacted(log: list[Record], kept: list[bool]) -> list[Record]:
    """Return the log after compaction: the last record of each key stays, others may."""
    last = {record.key: number for number, record in enumerate(log)}
    return [
        record
        for number, record in enumerate(log)
        if last[record.key] == number or kept[number % len(kept)]
    ]


@given(log=_logs(), kept=st.lists(st.booleans(), min_size=1, max_size=30))
def test_compaction_changes_nothing(log: _Log, kept: list[bool]) -> None:
    """A gate that read the whole log and one that read what compaction left know the same."""
    followed = loaded_gate(heartbeat(PARTITION, 0))
    followed.take(log.records)
    started = loaded_gate(_compacted(log.records, kept))
    assert _blocks(followed.check("team-1").limits) == log.stands
    assert _blocks(started.check("team-1").limits) == log.stands


@given(log=_logs(), kept=st.lists(st.booleans(), min_size=1, max_size=30))
def test_reading_the_log_again_unblocks_nothing(log: _Log, kept: list[bool]) -> None:
    """A log that is read from its beginning once more never changes an answer on the way."""
    gate = loaded_gate(log.records)
    gate.begin_anew()
    for record in _compacted(log.records, kept):
        gate.take(record)
        assert _blocks(gate.check("team-1").limits) == log.stands
    gate.reach_end()
    assert _blocks(gate.check("team-1").limits) == log.stands
