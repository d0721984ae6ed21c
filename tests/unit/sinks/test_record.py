"""A journal record is what its header says, or it is refused."""

import dataclasses

import pytest
from tests.support.journal import TODAY_US, Writer, arrow, cell

from meterstream.schemas import rows
from meterstream.schemas.journal import MalformedRecord, Section, pack_sections
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.record import (
    JournalRecord,
    charges_with_keys,
    decode,
    leader_epoch_of,
)


def with_sections(record: JournalRecord, sections: dict[Section, bytes]) -> JournalRecord:
    """Return `record` with another value that its header vouches for."""
    import zlib

    value = pack_sections(sections)
    header = dataclasses.replace(record.header, value_crc32=zlib.crc32(value))
    return dataclasses.replace(record, value=value, header=header)


@pytest.fixture
def step() -> JournalRecord:
    """Return a step with one cell and one charge."""
    writer = Writer()
    writer.genesis(TODAY_US)
    return writer.step(
        [cell(TODAY_US, model="m-1")], charges=[{"event_offset": 0, "event_time": TODAY_US}]
    )


def test_versions_grow_with_the_leader_epoch_and_the_offset(step: JournalRecord) -> None:
    """A record that a new leader put in an old one's place outranks it, as a later generation's."""
    assert step.version == 2**54 + 1
    led = dataclasses.replace(step, leader_epoch=3)
    assert led.version == 2**54 + 3 * 2**40 + 1
    assert leader_epoch_of(led.version) == 3
    later = dataclasses.replace(
        step, offset=0, header=dataclasses.replace(step.header, generation=2)
    )
    assert later.version > led.version


def test_versions_fit_their_column(step: JournalRecord) -> None:
    """The highest generation and epoch that can be told stand for all beyond them."""
    last = dataclasses.replace(step.header, generation=2**32 - 1)
    highest = dataclasses.replace(step, offset=2**40 - 1, leader_epoch=2**31 - 1, header=last)
    assert highest.version == 2**64 - 1


def test_a_value_with_another_checksum_is_refused(step: JournalRecord) -> None:
    """One bit decides."""
    broken = dataclasses.replace(step, value=step.value[:-1] + b"\x01")
    with pytest.raises(MalformedRecord, match="CRC"):
        decode(broken)


@pytest.mark.parametrize(
    ("section", "data", "reason"),
    [
        (Section.CELLS, b"no arrow", "cannot be read"),
        (Section.CELLS, arrow(rows.SESSION, [{"team_id": "t"}]), "cannot be read"),
        (Section.VERDICTS, bytes([1, 1]), "2 verdicts for the offsets 0 to 1"),
        (Section.VERDICTS, bytes([31]), "verdict 31 is unknown"),
    ],
)
def test_sections_that_make_no_sense_are_refused(
    step: JournalRecord, section: Section, data: bytes, reason: str
) -> None:
    """The reason says which."""
    sections = {Section.VERDICTS: bytes([Verdict.COUNTED])}
    with pytest.raises(MalformedRecord, match=reason):
        decode(with_sections(step, sections | {section: data}))


def test_columns_of_a_newer_release_are_left_out(step: JournalRecord) -> None:
    """A reader takes the columns that it knows."""
    newer = (*rows.CELL, rows.Column("shiny", "int64", "new"))
    sections = {
        Section.VERDICTS: bytes([Verdict.COUNTED]),
        Section.CELLS: arrow(newer, [cell(TODAY_US)]),
    }
    decoded = decode(with_sections(step, sections))
    assert decoded.cells is not None
    assert decoded.cells.column_names == [column.name for column in rows.CELL]


@pytest.mark.parametrize("number", [-1, 1])
def test_a_charge_without_its_cell_is_refused(step: JournalRecord, number: int) -> None:
    """A charge counts from the record's own cells."""
    sections = {
        Section.VERDICTS: bytes([Verdict.COUNTED]),
        Section.CELLS: arrow(rows.CELL, [cell(TODAY_US)]),
        Section.CHARGES: arrow(rows.CHARGE, [{"cell": number}]),
    }
    with pytest.raises(MalformedRecord, match="points to a cell"):
        charges_with_keys(decode(with_sections(step, sections)))


def test_charges_of_late_cells_carry_the_journal_offset(step: JournalRecord) -> None:
    """Cells are counted through: the on-time ones, then the late minutes."""
    sections = {
        Section.VERDICTS: bytes([Verdict.COUNTED]),
        Section.CELLS: arrow(rows.CELL, [cell(TODAY_US, model="on-time")]),
        Section.LATE_MINUTES: arrow(rows.CELL, [cell(TODAY_US, model="late")]),
        Section.CHARGES: arrow(rows.CHARGE, [{"cell": 1}, {"cell": 0}]),
    }
    charges = charges_with_keys(decode(with_sections(step, sections)))
    assert charges is not None
    assert charges["model"].to_pylist() == ["late", "on-time"]
    assert charges["late"].to_pylist() == [step.offset, -1]
    assert "cell" not in charges.column_names
