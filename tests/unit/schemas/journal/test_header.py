"""The fixed layout of a journal record's header."""

import zlib
from dataclasses import fields, replace
from uuid import UUID

import pytest

from meterstream.schemas.journal import Header, Kind, MalformedRecord

HEADER = Header(
    Kind.IDLE,
    2**16 - 2,
    2**32 - 1,
    UUID(int=2**128 - 1),
    UUID(int=7),
    -1,
    2**63 - 1,
    2,
    3,
    4,
    5,
    6,
    -1,
    -8,
    2**64 - 1,
    -1,
    2**32 - 1,
)


def test_a_header_is_what_it_was_after_packing() -> None:
    """Each field comes back at the ends of its range."""
    assert Header.unpack(HEADER.pack()) == HEADER
    assert len({getattr(HEADER, field.name) for field in fields(Header)}) > 10


def test_the_layout_never_moves() -> None:
    """The bytes of a header are fixed: version and kind, then big-endian fields."""
    packed = HEADER.pack()
    assert len(packed) == 132
    assert packed[:8] == b"\x01\x03\xff\xfe\xff\xff\xff\xff"
    assert packed[8:24] == b"\xff" * 16
    assert packed[24:40] == bytes(15) + b"\x07"
    assert packed[40:48] == b"\xff" * 8
    assert packed[48:56] == b"\x7f" + b"\xff" * 7
    assert [packed[at + 7] for at in range(56, 96, 8)] == [2, 3, 4, 5, 6]
    assert packed[96:104] == b"\xff" * 8
    assert packed[104:112] == b"\xff" * 7 + b"\xf8"
    assert packed[112:120] == b"\xff" * 8
    assert packed[120:124] == b"\xff" * 4
    assert packed[124:128] == b"\xff" * 4
    assert packed[128:] == zlib.crc32(packed[:128]).to_bytes(4)


@pytest.mark.parametrize("size", [0, 131, 133])
def test_a_header_of_another_size_is_refused(size: int) -> None:
    """Bytes that are cut or too many are no header."""
    with pytest.raises(MalformedRecord, match=f"a header has 132 bytes, not {size}"):
        Header.unpack((HEADER.pack() * 2)[:size])


def test_a_later_layout_is_refused() -> None:
    """A reader stops at a layout it does not know, and says which."""
    with pytest.raises(MalformedRecord, match="layout 2 is unknown here, this code reads 1"):
        Header.unpack(b"\x02" + HEADER.pack()[1:])


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    """A record of a kind that is not known stops the reader."""
    data = b"\x01" + bytes([kind]) + HEADER.pack()[2:-4]
    with pytest.raises(MalformedRecord, match=f"kind {kind} is unknown"):
        Header.unpack(data + zlib.crc32(data).to_bytes(4))


def test_a_value_is_checked_against_its_header() -> None:
    """A value with one other bit is refused, with both sums named."""
    step = replace(HEADER, value_crc32=zlib.crc32(b"value"))
    step.check_value(b"value")
    with pytest.raises(MalformedRecord, match=r"CRC-32 is [0-9a-f]{8}, its header says 1d775834"):
        step.check_value(b"valuf")
