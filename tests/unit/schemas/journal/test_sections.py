"""How the value of a journal record is divided into sections."""

import pytest

from meterstream.schemas.journal import MalformedRecord, Section, pack_sections, unpack_sections


def test_sections_come_back_as_they_were() -> None:
    """Each section is found under its number, an empty one too, and none that was not written."""
    sections = {Section.IDS: b"ids", Section.VERDICTS: b"\x01\x05", Section.GENESIS: b""}
    assert {s: bytes(d) for s, d in unpack_sections(pack_sections(sections)).items()} == sections
    assert unpack_sections(b"") == {}


def test_the_layout_never_moves() -> None:
    """A section is its number, three spare bytes, its length and its bytes, in number order."""
    packed = pack_sections({Section.IDS: b"xy", Section.VERDICTS: b"z"})
    assert packed == b"\x01\0\0\0\0\0\0\x01z\x07\0\0\0\0\0\0\x02xy"


def test_the_numbers_never_change() -> None:
    """Records that were written once are read for years: a number keeps its meaning."""
    assert {section.name: int(section) for section in Section} == {
        "VERDICTS": 1,
        "CELLS": 2,
        "LATE_MINUTES": 3,
        "LATE_QUARTERS": 4,
        "LATE_DAYS": 5,
        "CHARGES": 6,
        "IDS": 7,
        "REJECTS": 8,
        "SESSIONS": 9,
        "CATALOG": 10,
        "CONTROL": 11,
        "GENESIS": 12,
        "LIMIT_STATES": 13,
        "CROSSINGS": 14,
        "TOTALS": 15,
        "REACHED": 16,
        "CORRECTIONS": 17,
        "CORRECTED": 18,
        "ACCOUNTS": 19,
        "GRANTS": 20,
        "TERMS": 21,
        "DRAWS": 22,
        "TEAM_USAGE": 23,
        "ORGANISATION_USAGE": 24,
        "COUNTED": 25,
        "AHEAD": 26,
        "LIMITS_TOLD": 27,
    }


def test_a_section_of_a_newer_version_is_skipped() -> None:
    """What this code does not know stands in nobody's way."""
    value = b"\xc8\0\0\0\0\0\0\x03new" + pack_sections({Section.IDS: b"ids"})
    assert {s: bytes(d) for s, d in unpack_sections(value).items()} == {Section.IDS: b"ids"}


@pytest.mark.parametrize("missing", [1, 2, 7])
def test_a_section_that_is_cut_off_is_refused(missing: int) -> None:
    """A value that ends within a section's head or its bytes is malformed."""
    value = pack_sections({Section.VERDICTS: b"abc", Section.IDS: b""})
    with pytest.raises(MalformedRecord, match="the section at byte 11 is cut off"):
        unpack_sections(value[:-missing])


def test_a_section_whose_bytes_are_missing_is_refused() -> None:
    """A length that goes past the end of the value is malformed."""
    value = pack_sections({Section.IDS: b"abc"})
    with pytest.raises(MalformedRecord, match="section 7 has 3 bytes, and the value ends before"):
        unpack_sections(value[:-1])
