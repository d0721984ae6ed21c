"""Catalog and control entries in a step."""

import pytest
from tests.support.craft import (
    NOW,
    Partition,
    card,
    charges,
    entries,
    rejects,
    run,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    Entry,
    Policy,
    compute_step,
)

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


def test_entries_are_taken_with_a_record() -> None:
    """What is taken moves the positions and stands in the record; what is refused is reported."""
    partition = Partition()
    step = partition.take_batch(
        None, catalog=entries(card(), b"{", first=3), control=entries(b"x", first=7)
    )
    assert (partition.state.catalog_position, partition.state.control_position) == (5, 8)
    assert [entry.offset for entry in step.changes.catalog] == [3]
    assert set(unpack_sections(step.value)) == {Section.CATALOG, Section.REJECTS}
    assert [(topic, offset, verdict) for topic, offset, verdict, _ in rejects(step)] == [
        ("catalog", 4, Verdict.NOT_JSON),
        ("control", 7, Verdict.NOT_JSON),
    ]
    assert (step.counts, step.is_empty) == ({}, False)


def test_one_partition_reports_what_is_wrong_with_the_catalog() -> None:
    """All partitions read the catalog; only the first sends its refusals to the DLQ."""
    other = Partition(Policy(2), partition=1)
    step = other.take_batch(None, catalog=entries(b"{"))
    assert (rejects(step), step.is_empty) == ([], True)
    assert other.state.catalog_position == 1


def test_entries_price_the_events_of_their_own_record() -> None:
    """A card that arrives with a batch prices it: it arrived before."""
    step = Partition().take(run(), catalog=entries(card(prices=[{"run_micro": 5}])))
    assert charges(step)[0]["credits_micro"] == 5


def test_positions_may_lie_after_the_last_entry() -> None:
    """Offsets without entries, markers say, are passed by naming the position after them."""
    partition = Partition()
    step = compute_step(
        partition.state, None, catalog=entries(card()), catalog_to=9, control_to=4, now_us=NOW
    )
    partition.commit(step, NOW)
    assert (partition.state.catalog_position, partition.state.control_position) == (9, 4)
    step = compute_step(partition.state, None, catalog_to=9, control_to=4, now_us=NOW)
    assert (step.header.catalog_to, step.header.control_to, step.is_empty) == (9, 4, True)


@pytest.mark.parametrize(
    ("offsets", "to"),
    [((8,), 10), ((9, 9), 10), ((10, 9), 11), ((9,), 9), ((9, 12), 12), ((), 8), ((9, 12), 11)],
)
@pytest.mark.parametrize("topic", ["catalog", "control"])
def test_no_entry_is_taken_twice(topic: str, offsets: tuple[int, ...], to: int) -> None:
    """Entries from before the position, out of order, or at the named position are refused."""
    partition = Partition()
    first = compute_step(partition.state, None, catalog_to=9, control_to=9, now_us=NOW)
    partition.commit(first, NOW)
    some = [Entry(offset, NOW, None, None) for offset in offsets]
    with pytest.raises(
        ValueError, match=f"{topic} entries at offsets .* do not lie between 9 and {to}"
    ):
        compute_step(partition.state, None, **{topic: some, f"{topic}_to": to}, now_us=NOW)  # type: ignore[arg-type]


def test_an_entry_at_the_position_is_the_next() -> None:
    """The first entry may stand exactly at the position, the last just before the next one."""
    partition = Partition()
    step = compute_step(
        partition.state,
        None,
        catalog=entries(card(), None),
        catalog_to=2,
        control=entries(b"", first=0),
        now_us=NOW,
    )
    assert (step.header.catalog_to, step.header.control_to) == (2, 1)
