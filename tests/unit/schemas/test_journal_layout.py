"""The bytes of journal records: header and sections."""

import dataclasses
import struct
import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.schemas.journal import (
    Header,
    Kind,
    MalformedRecord,
    Section,
    pack_sections,
    unpack_sections,
)
from meterstream.schemas.journal.header import MAX_GRACE_SECONDS

HEADER = Header(
    Kind.STEP, 600, 7, UUID(int=1), UUID(int=2), 5, 10, 20, 3, 4, 1_000, 2_000, 19, 999,
    2**64 - 1, -1, 2**32 - 1,
)  # fmt: skip

int64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(
        Header,
        st.sampled_from(Kind),
        st.integers(0, MAX_GRACE_SECONDS),
        st.integers(0, 2**32 - 1),
        st.uuids(),
        st.uuids(),
        *[int64] * 9,
        st.integers(0, 2**64 - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 2**32 - 1),
    )
)
def test_headers_round_trip(header: Header) -> None:
    """A header that was packed unpacks to the same."""
    assert Header.unpack(header.pack()) == header


def test_the_layout_does_not_change() -> None:
    """The bytes of a header are those of layout 1, which stored journals rely on."""
    assert HEADER.pack().hex() == (
        "0102025800000007"
        "00000000000000000000000000000001"
        "00000000000000000000000000000002"
        "0000000000000005000000000000000a00000000000000140000000000000003"
        "000000000000000400000000000003e800000000000007d00000000000000013"
        "00000000000003e7ffffffffffffffffffffffffffffffff5a208eb6"
    )


def with_crc(data: bytes) -> bytes:
    """Return the bytes of a header with the CRC-32 that makes them one."""
    return data + zlib.crc32(data).to_bytes(4)


def test_every_changed_bit_of_a_header_is_noticed() -> None:
    """Beside the layout, which has its own message: nothing takes effect that was not written."""
    for bit in range(8, 8 * len(HEADER.pack())):
        data = bytearray(HEADER.pack())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedRecord, match="the header's CRC-32 is"):
            Header.unpack(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a header has 132 bytes, not 0"),
        (HEADER.pack() + b"\0", "a header has 132 bytes, not 133"),
        (b"\x02" + HEADER.pack()[1:], "layout 2 is unknown here, this code reads 1"),
        (with_crc(b"\x01\x09" + HEADER.pack()[2:-4]), "kind 9 is unknown"),
    ],
)
def test_a_header_of_another_form_is_refused(data: bytes, message: str) -> None:
    """A header that this code cannot read raises and says why."""
    with pytest.raises(MalformedRecord, match=message):
        Header.unpack(data)


def test_a_changed_value_is_noticed() -> None:
    """A value of which a bit has changed does not match its header."""
    header = dataclasses.replace(HEADER, value_crc32=0xCBF43926)
    header.check_value(b"123456789")
    with pytest.raises(MalformedRecord, match="its header says cbf43926"):
        header.check_value(b"123456788")


@given(st.dictionaries(st.sampled_from(Section), st.binary(max_size=40)))
def test_sections_round_trip(sections: dict[Section, bytes]) -> None:
    """Sections unpack to what was packed, whatever their order and size."""
    found = unpack_sections(pack_sections(sections))
    assert {section: bytes(data) for section, data in found.items()} == sections


def test_sections_stand_in_order() -> None:
    """The same sections make the same bytes, in whatever order they were given."""
    some = {Section.CELLS: b"c", Section.VERDICTS: b"v"}
    assert pack_sections(some) == pack_sections(dict(reversed(some.items())))
    assert pack_sections(some) == b"\x01\0\0\0\0\0\0\x01v\x02\0\0\0\0\0\0\x01c"


def test_a_section_that_is_unknown_is_skipped() -> None:
    """A section of a newer version leaves its neighbours readable."""
    newer = struct.pack(">BxxxI", 200, 3) + b"new"
    value = newer + pack_sections({Section.IDS: b"ids"})
    assert {k: bytes(v) for k, v in unpack_sections(value).items()} == {Section.IDS: b"ids"}


@pytest.mark.parametrize("cut", [1, 5, 8, 9])
def test_a_cut_value_is_refused(cut: int) -> None:
    """A value that ends within a section raises, and nothing of it is used."""
    value = pack_sections({Section.IDS: b"ids"})
    with pytest.raises(MalformedRecord, match=r"cut off|ends before"):
        unpack_sections(value[:-cut])
