"""The chain: of two writers who both believe to own a partition, exactly one goes on."""

import dataclasses
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream.schemas.journal import Chain, ChainHole, Header, Kind, Link

START_US = 1_000_000


def header(
    kind: Kind = Kind.STEP,
    *,
    prev: int = -1,
    events_from: int = 0,
    events_to: int = 0,
    clock_us: int = START_US,
    generation: int = 1,
    limit_us: int = 2**62,
) -> Header:
    """Return a header; what the chain does not look at is the same in all."""
    return Header(
        kind, 600, generation, UUID(int=1), UUID(int=2), prev, events_from, events_to, 0, 0,
        clock_us, limit_us, -1, 0, 0, -1, 0,
    )  # fmt: skip


GENESIS = header(Kind.GENESIS)


@dataclasses.dataclass
class Writer:
    """A meter that continues the chain as far as it knows it."""

    chain: Chain
    read_to: int = 0

    def catch_up(self, log: list[tuple[int, Header]]) -> None:
        for offset, record in log[self.read_to :]:
            self.chain.take(offset, 0, record)
        self.read_to = len(log)

    def next_record(self, events: int, clock_step_us: int, kind: Kind) -> Header:
        link = self.chain.link
        assert link is not None
        return header(
            kind,
            prev=link.prev,
            events_from=link.events_position,
            events_to=link.events_position + (events if kind is Kind.STEP else 0),
            clock_us=link.clock_us + clock_step_us,
        )


actions = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(("write", "write", "write", "read")),
        st.integers(0, 3),
        st.integers(0, 5),
        st.sampled_from((Kind.STEP, Kind.STEP, Kind.IDLE)),
        st.integers(1, 3),
    ),
    max_size=40,
)


def write_all(plan: list[tuple[int, str, int, int, Kind, int]]) -> list[tuple[int, Header]]:
    """Return the log of two writers who write and read as planned."""
    log = [(0, GENESIS)]
    writers = [Writer(Chain()), Writer(Chain())]
    for writer in writers:
        writer.catch_up(log)
    for who, what, events, clock_step_us, kind, gap in plan:
        writer = writers[who]
        if what == "read":
            writer.catch_up(log)
            continue
        record = writer.next_record(events, clock_step_us, kind)
        log.append((log[-1][0] + gap, record))
        if writer.read_to == len(log) - 1:  # its record stands where it expected it
            writer.catch_up(log)
    return log


def valid_records(log: list[tuple[int, Header]], chain: Chain) -> list[tuple[int, Header]]:
    """Return the records that a reader holds for valid."""
    return [(offset, record) for offset, record in log if chain.take(offset, 0, record)]


@given(actions)
@settings(max_examples=100)
def test_valid_records_cover_each_event_once(
    plan: list[tuple[int, str, int, int, Kind, int]],
) -> None:
    """Whatever two writers do, the valid records cover the events in order, each exactly once."""
    log = write_all(plan)
    valid = valid_records(log, Chain())
    position, previous, clock_us = 0, 0, START_US
    assert valid[0] == (0, GENESIS)
    for offset, record in valid[1:]:
        assert record.prev == previous
        assert record.events_from == position
        assert record.clock_us >= clock_us
        position, previous, clock_us = record.events_to, offset, record.clock_us


@given(actions, st.integers(0, 40))
@settings(max_examples=100)
def test_readers_agree_wherever_they_pause(
    plan: list[tuple[int, str, int, int, Kind, int]], pause: int
) -> None:
    """A reader that keeps its link and goes on later holds the same records for valid."""
    log = write_all(plan)
    expected = valid_records(log, Chain())
    first = Chain()
    seen = valid_records(log[:pause], first)
    kept = Link.from_metadata(first.link.to_metadata()) if first.link is not None else None
    seen += valid_records(log, Chain(kept))
    assert seen == expected


@given(actions)
def test_the_first_to_continue_wins(plan: list[tuple[int, str, int, int, Kind, int]]) -> None:
    """Of records with the same `prev`, the first with fitting positions is the valid one."""
    log = write_all(plan)
    valid = dict(valid_records(log, Chain()))
    for prev in {record.prev for _, record in log[1:]}:
        rivals = [offset for offset, record in log[1:] if record.prev == prev]
        assert [offset for offset in rivals if offset in valid] == rivals[:1]


def started() -> Chain:
    """Return a chain after its genesis at offset 0 and a step of five events at offset 3."""
    chain = Chain()
    assert chain.take(0, 0, GENESIS)
    assert chain.take(3, 0, header(prev=0, events_to=5, clock_us=START_US + 5))
    return chain


def test_void_records_are_counted_and_change_nothing() -> None:
    """A record that does not continue the chain moves only the reader's next offset."""
    chain = started()
    for record in (
        header(prev=0, events_from=0, events_to=7, clock_us=START_US + 9),
        header(prev=3, events_from=4, events_to=7, clock_us=START_US + 9),
        header(prev=3, events_from=5, events_to=4, clock_us=START_US + 9),
        header(prev=3, events_from=5, events_to=7, clock_us=START_US + 4),
        header(prev=-1, events_from=5, events_to=7, clock_us=START_US + 9),
        header(Kind.GENESIS, prev=3, generation=1),
        header(Kind.GENESIS, prev=2, generation=2),
    ):
        before = chain.link
        assert before is not None
        assert not chain.take(before.next_offset, 0, record)
        assert chain.link == dataclasses.replace(before, next_offset=before.next_offset + 1)
    assert chain.void_records == 7


def test_a_hole_stops_the_reader() -> None:
    """A record that continues one the reader has not seen raises, and the reader stays."""
    chain = started()
    before = chain.link
    with pytest.raises(ChainHole, match=r"continues 9, which was not seen.* is 3"):
        chain.take(10, 0, header(prev=9, events_from=5, events_to=6, clock_us=START_US + 9))
    with pytest.raises(ChainHole, match="of generation 2, whose genesis was not seen"):
        chain.take(10, 0, header(prev=3, events_from=5, generation=2, clock_us=START_US + 9))
    assert chain.link == before


def test_nobody_starts_in_the_middle() -> None:
    """Without a link only a genesis record may come first."""
    with pytest.raises(ChainHole, match="no link to it is kept"):
        Chain().take(4, 0, header(prev=3))


def test_a_rewound_transport_is_harmless() -> None:
    """A record that was taken already is passed over, not counted as void."""
    chain = started()
    assert not chain.take(3, 0, header(prev=0, events_to=5, clock_us=START_US + 5))
    assert chain.void_records == 0


def test_a_new_generation_is_valid_once() -> None:
    """The first genesis of a generation wins; a second one, and the old writer, are void."""
    chain = started()
    begins = header(Kind.GENESIS, prev=3, generation=2, events_from=50, events_to=50)
    assert chain.take(4, 0, begins)
    rival = dataclasses.replace(begins, events_from=60, events_to=60)
    assert not chain.take(5, 0, rival)
    assert not chain.take(5, 0, dataclasses.replace(rival, generation=3))
    assert not chain.take(6, 0, header(prev=3, events_from=5, events_to=9, clock_us=START_US + 9))
    assert chain.take(7, 0, header(prev=4, events_from=50, events_to=51, generation=2))


def test_an_idle_record_moves_the_clock_by_its_log_time() -> None:
    """The log time of an idle record becomes the clock, unless it lies past the record's limit."""
    chain = started()
    at = header(
        Kind.IDLE, prev=3, events_from=5, events_to=5, clock_us=START_US + 5, limit_us=2**41
    )
    assert chain.take(4, 2**41, at)
    assert chain.link is not None
    assert chain.link.clock_us == 2**41
    after = dataclasses.replace(at, prev=4, clock_us=2**41, clock_limit_us=2**41 + 10)
    assert chain.take(5, 2**41 + 11, after)
    assert chain.link.clock_us == 2**41


def test_markers_are_skipped() -> None:
    """A reader that is told of offsets without records goes on after them, and never back."""
    chain = started()
    chain.skip_to(9)
    chain.skip_to(6)
    assert chain.link is not None
    assert chain.link.next_offset == 9
    empty = Chain()
    empty.skip_to(9)
    assert empty.link is None


@pytest.mark.parametrize("text", ["", "1:2:3", "2:1:2:3:4:5", "1:1:2:3:4:x", "1:1:2:3:4:5:6"])
def test_a_link_that_is_not_ours_is_refused(text: str) -> None:
    """Metadata of another form raises, so nobody starts at a guess."""
    with pytest.raises(ValueError, match=r"link|invalid literal"):
        Link.from_metadata(text)
