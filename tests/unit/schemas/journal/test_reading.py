"""Looking behind a break for the genesis from which all readers go on."""

import pytest
from tests.support.journal import Writer
from tests.unit.schemas.journal.test_chain import header

from meterstream.schemas.journal import (
    ChainBroken,
    ChainReader,
    GenesisSearch,
    Header,
    Kind,
    MalformedRecord,
    find_header,
    packed_header,
)


def genesis(prev: int, generation: int = 3) -> Header:
    """Return the header of a genesis that names `prev` as the last record."""
    return header(Kind.GENESIS, prev=prev, generation=generation)


def test_a_genesis_must_name_the_last_record_before_it() -> None:
    """What stands between may be valid, also if it cannot be read."""
    for between in (header(), None):
        search = GenesisSearch(generation=2, first=10)
        assert not search.look(10, None)
        assert not search.look(11, between)
        assert not search.look(12, genesis(prev=10))
        assert not search.look(13, genesis(prev=12))  # its number was used by a void one
        assert search.look(14, genesis(prev=13, generation=4))


def test_a_genesis_must_be_of_a_later_generation() -> None:
    """Than the one that broke off, and than any that was seen since."""
    search = GenesisSearch(generation=2, first=10)
    assert not search.look(10, genesis(prev=9, generation=2))
    assert not search.look(11, header(generation=5))
    assert not search.look(12, genesis(prev=11, generation=5))
    assert search.look(13, genesis(prev=12, generation=6))


def test_what_was_removed_before_the_first_record_may_have_been_valid() -> None:
    """A genesis that is the first one left must follow what it names."""
    assert not GenesisSearch(generation=2, first=10).look(10, genesis(prev=8))
    assert GenesisSearch(generation=2, first=10).look(10, genesis(prev=9))
    assert GenesisSearch(generation=2, first=0).look(0, genesis(prev=-1))


def test_a_genesis_with_another_value_is_none() -> None:
    """Its generation has begun for the meter; readers wait for the next one."""
    search = GenesisSearch(generation=2, first=10)
    assert not search.look(10, genesis(prev=9), is_whole=False)
    assert not search.look(11, genesis(prev=10))
    assert search.look(12, genesis(prev=11, generation=4))


def test_a_reader_stays_where_the_chain_breaks() -> None:
    """Until it is told to look ahead; what it finds is the chain's new beginning."""
    writer = Writer()
    records = [writer.genesis(0), writer.step(), writer.step(), writer.new_generation(0)]
    reader = ChainReader()

    def take(number: int, value: bytes | None = None) -> bool:
        one = records[number]
        packed = one.header.pack()
        return reader.take(one.offset, 0, packed, one.value if value is None else value) is not None

    assert take(0)
    link = reader.link
    with pytest.raises(MalformedRecord, match="value's CRC-32"):
        take(1, b"x")
    assert reader.link == link
    reader.at_end()
    reader.look_ahead(1, "broken at 1")
    assert not take(1, b"x")
    assert reader.take(1, 0, b"broken", b"x") is None
    assert not take(2)
    with pytest.raises(ChainBroken, match="broken at 1"):
        reader.at_end()
    reader.skip_to(3)
    assert reader.link == link
    assert take(3)
    assert not reader.looks_ahead
    assert reader.link == records[3].link


def test_a_header_is_found_among_others() -> None:
    """By its name, else by its own check; a name without bytes is a damaged one."""
    packed = header().pack()
    assert packed_header([("trace", b"x"), ("meterstream-chain", packed)]) == packed
    assert packed_header({"meterstream-chaim": packed, "trace": b"x" * len(packed)}) == packed
    assert packed_header([("meterstream-chain", None)]) == b""
    assert packed_header([("trace", packed[:-1] + b"\x00"), ("other", None)]) is None
    assert packed_header(None) is None


def test_a_record_that_lost_its_header_is_no_stranger() -> None:
    """It may have been valid; what holds no sections of the meter's is somebody else's."""
    record = Writer().genesis(0)
    with pytest.raises(MalformedRecord, match="has lost its meterstream-chain header"):
        find_header(None, record.value)
    assert find_header(None, b"") is None
    assert find_header(None, b"stranger") is None
    assert find_header(record.header.pack(), record.value) == record.header
