"""The rule by which every reader decides which journal records are valid."""

from uuid import UUID

import pytest

from meterstream.schemas.journal import Chain, ChainHole, Header, Kind, Link
from meterstream.schemas.journal.header import NONE


def header(kind: Kind = Kind.STEP, **parts: int) -> Header:
    """Return a header that continues `LINK`, but for what `parts` say."""
    plain = {
        "grace_seconds": 600,
        "generation": 2,
        "prev": 9,
        "events_from": 100,
        "events_to": 110,
        "control_to": 0,
        "catalog_to": 0,
        "clock_us": 5_000,
        "clock_limit_us": 6_000,
        "last_event_offset": 109,
        "last_event_time_us": 5_000,
        "last_event_hash": 1,
        "last_event_epoch": 0,
        "value_crc32": 0,
    }
    return Header(kind, events_topic_id=UUID(int=1), journal_topic_id=UUID(int=2), **plain | parts)


LINK = Link(next_offset=10, prev=9, generation=2, events_position=100, clock_us=5_000)


def test_a_record_that_continues_the_last_valid_one_is_valid() -> None:
    """A record whose prev, generation, positions and clock fit moves the chain past itself."""
    chain = Chain(LINK)
    assert chain.take(10, 7_000, header(clock_us=5_500))
    assert chain.link == Link(11, 10, 2, 110, 5_500)
    assert chain.void_records == 0


def test_of_two_writers_the_first_wins() -> None:
    """A second record that continues the same one is void, and the next continues the first."""
    chain = Chain(LINK)
    assert chain.take(10, 0, header())
    assert not chain.take(11, 0, header())
    assert chain.link == Link(12, 10, 2, 110, 5_000)
    assert chain.void_records == 1
    assert chain.take(12, 0, header(prev=10, events_from=110, events_to=110))


@pytest.mark.parametrize(
    "parts",
    [
        {"prev": 8},
        {"prev": NONE},
        {"events_from": 99},
        {"events_from": 101},
        {"events_from": 100, "events_to": 99},
        {"clock_us": 4_999},
        {"generation": 1},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_is_void(parts: dict[str, int]) -> None:
    """A record with an older prev, other positions, a lower clock or an old generation is void."""
    chain = Chain(LINK)
    assert not chain.take(10, 0, header(Kind.STEP, **parts))
    assert chain.link == Link(11, 9, 2, 100, 5_000)
    assert chain.void_records == 1


@pytest.mark.parametrize("parts", [{"events_to": 100}, {"clock_us": 5_000}], ids=str)
def test_a_record_that_moves_nothing_is_valid(parts: dict[str, int]) -> None:
    """Equal positions and an equal clock continue the chain."""
    assert Chain(LINK).take(10, 0, header(Kind.STEP, **parts))


def test_a_chain_that_never_began_has_no_first_record_but_a_genesis() -> None:
    """A record that names no record before it is void even where none is known."""
    chain = Chain(Link(10, NONE, 2, 100, 5_000))
    assert not chain.take(10, 0, header(prev=NONE))


def test_a_record_after_one_that_was_not_seen_is_a_hole() -> None:
    """A prev above the last valid record means that the reader has missed one, and must go back."""
    chain = Chain(LINK)
    with pytest.raises(ChainHole, match=r"offset 12 continues 10, which was not seen.* is 9"):
        chain.take(12, 0, header(prev=10))
    assert chain.link == LINK


def test_a_generation_whose_genesis_was_not_seen_is_a_hole() -> None:
    """A record of a later generation without its genesis means that the reader has missed it."""
    with pytest.raises(ChainHole, match="offset 10 is of generation 3"):
        Chain(LINK).take(10, 0, header(generation=3))


def test_without_a_link_only_a_genesis_begins() -> None:
    """A reader that knows nothing takes a genesis, and refuses to begin in the middle."""
    chain = Chain()
    assert chain.link is None
    with pytest.raises(ChainHole, match="offset 4: the chain's beginning is gone"):
        chain.take(4, 0, header())
    assert chain.take(5, 0, header(Kind.GENESIS, generation=7, prev=NONE))
    assert chain.link == Link(6, 5, 7, 110, 5_000)


@pytest.mark.parametrize(("generation", "valid"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_genesis_counts_once_and_in_order(generation: int, valid: bool) -> None:
    """Only a genesis of a later generation ends the one before; its clock may be lower."""
    chain = Chain(LINK)
    begins = header(Kind.GENESIS, generation=generation, clock_us=0, events_to=50)
    assert chain.take(10, 0, begins) is valid
    after = Link(11, 10, generation, 50, 0) if valid else Link(11, 9, 2, 100, 5_000)
    assert chain.link == after
    assert chain.void_records == (0 if valid else 1)
    assert not chain.take(11, 0, begins)


@pytest.mark.parametrize(("prev", "valid"), [(8, False), (9, True), (12, True)])
def test_a_genesis_that_does_not_know_a_valid_record_is_void(prev: int, valid: bool) -> None:
    """What was decided while a generation was being prepared would be counted twice by it."""
    assert Chain(LINK).take(13, 0, header(Kind.GENESIS, generation=3, prev=prev)) is valid


def test_a_record_that_was_read_before_is_no_record() -> None:
    """What a transport delivers again changes nothing and is not counted as void."""
    chain = Chain(LINK)
    assert not chain.take(9, 0, header())
    assert (chain.link, chain.void_records) == (LINK, 0)


def test_a_stranger_that_was_read_before_is_not_counted_again() -> None:
    """A transport that goes back delivers it twice; it is one void record."""
    chain = Chain(LINK)
    for offset in (10, 10, 9):
        chain.pass_over(offset)
    assert chain.link == Link(11, 9, 2, 100, 5_000)
    assert (chain.void_records, chain.strangers) == (1, 1)


@pytest.mark.parametrize(
    ("timestamp_us", "clock_us"), [(4_999, 5_000), (5_001, 5_001), (6_000, 6_000), (6_001, 5_000)]
)
def test_an_idle_records_own_time_is_the_clock(timestamp_us: int, clock_us: int) -> None:
    """The broker's time of an idle record moves the clock on, never back and not past its limit."""
    chain = Chain(LINK)
    assert chain.take(10, timestamp_us, header(Kind.IDLE, events_to=100))
    assert chain.link == Link(11, 10, 2, 100, clock_us)


def test_a_steps_own_time_is_not_the_clock() -> None:
    """The clock after a step is what the step says, whenever its record was written."""
    assert header().clock_after(5_900) == 5_000


@pytest.mark.parametrize(
    ("changed", "timestamp_us"),
    [({"generation": 3}, 5_900), ({"events_to": 101}, 5_900), ({}, 5_901)],
    ids=["generation", "position", "clock"],
)
def test_a_link_follows_the_record_it_was_made_from_and_no_other(
    changed: dict[str, int], timestamp_us: int
) -> None:
    """A record that a log holds in its place is told by generation, position and clock."""
    link = Link(11, 10, 2, 100, 5_900)
    assert link.follows(header(Kind.IDLE, events_to=100), 5_900)
    assert not link.follows(header(Kind.IDLE, **{"events_to": 100} | changed), timestamp_us)


@pytest.mark.parametrize(("offset", "next_offset"), [(9, 10), (10, 10), (11, 11), (15, 15)])
def test_offsets_without_records_are_skipped(offset: int, next_offset: int) -> None:
    """A reader that hears of a gap goes on after it, and never goes back."""
    chain = Chain(LINK)
    chain.skip_to(offset)
    assert chain.link == Link(next_offset, 9, 2, 100, 5_000)


def test_a_gap_before_the_genesis_says_nothing() -> None:
    """Skipping leaves a chain that has not begun as it is."""
    chain = Chain()
    chain.skip_to(7)
    assert chain.link is None


def test_a_link_survives_as_metadata() -> None:
    """A link is what it was after a round through the text that is committed with an offset."""
    assert LINK.to_metadata() == "1:10:9:2:100:5000"
    assert Link.from_metadata(LINK.to_metadata()) == LINK
    negative = Link(0, NONE, 1, 0, 0)
    assert Link.from_metadata(negative.to_metadata()) == negative


@pytest.mark.parametrize(
    "text", ["", "2:10:9:2:100:5000", "1:10:9:2:100", "1:1:1:1:1:1:1", "1:a:9:2:1:5"]
)
def test_other_metadata_is_refused(text: str) -> None:
    """Text that is no link of this version, another tool's say, is never taken for one."""
    with pytest.raises(ValueError, match=r"not a link|invalid literal"):
        Link.from_metadata(text)
