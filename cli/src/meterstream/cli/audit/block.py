"""Blocks: many consecutive valid records of one segment, decoded into columns."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas import rows
from meterstream.schemas.journal import Kind, MalformedRecord, Section, unpack_sections
from meterstream.schemas.verdicts import Verdict

from .columns import KEYS, read_section, to_frame
from .scope import Segment, ValidRecord

BLOCK_BYTES: Final = 24 * 1024 * 1024
"""Values a block holds before the next one begins: about 200,000 events."""
BLOCK_RECORDS: Final = 20_000
ID_BYTES: Final = 24
SECOND_US: Final = 1_000_000

_KNOWN: Final = np.zeros(256, np.bool_)
_KNOWN[[int(verdict) for verdict in Verdict]] = True

_VERDICTS: Final = {int(verdict): int(verdict) for verdict in Verdict}

TABLES: Final = {
    Section.CELLS: rows.CELL,
    Section.LATE_MINUTES: rows.CELL,
    Section.LATE_QUARTERS: rows.CELL,
    Section.LATE_DAYS: rows.CELL,
    Section.CHARGES: rows.CHARGE,
    Section.SESSIONS: rows.SESSION,
    Section.CORRECTIONS: rows.CORRECTION,
    Section.ACCOUNTS: rows.ACCOUNT,
    Section.DRAWS: rows.DRAW,
}


@dataclass(frozen=True, slots=True)
class Reject:
    """An entry of a REJECTS section."""

    topic: str
    offset: int
    verdict: int
    journal_offset: int


@dataclass(frozen=True, slots=True)
class Opened:
    """One record with its sections read."""

    record: ValidRecord
    verdicts: NDArray[np.uint8]
    tables: dict[Section, pa.Table]
    ids: int
    rejects: list[Reject]


def open_record(record: ValidRecord) -> Opened:
    """Read the sections of a record; MalformedRecord if one of them is not what it must be."""
    header = record.header
    sections = unpack_sections(record.value)
    verdicts = np.frombuffer(sections.get(Section.VERDICTS, b""), np.uint8)
    if len(verdicts) != header.events_to - header.events_from:
        raise MalformedRecord(
            f"it has {len(verdicts)} verdicts for the offsets {header.events_from} to"
            f" {header.events_to}"
        )
    if not _KNOWN[verdicts].all():
        raise MalformedRecord(f"verdict {verdicts[~_KNOWN[verdicts]][0]} is unknown here")
    if header.kind is Kind.IDLE and record.value:
        raise MalformedRecord("an idle record must be empty")
    id_bytes = len(sections.get(Section.IDS, b""))
    if id_bytes % ID_BYTES:
        raise MalformedRecord(f"{id_bytes} bytes of ids are no multiple of {ID_BYTES}")
    tables = {
        section: read_section(sections[section], columns)
        for section, columns in TABLES.items()
        if section in sections
    }
    for section in (Section.CATALOG, Section.CONTROL):
        if section in sections:
            _entries(sections[section])
    if Section.GENESIS in sections:
        _json(sections[Section.GENESIS])
    rejects = _rejects(sections[Section.REJECTS], record) if Section.REJECTS in sections else []
    return Opened(record, verdicts, tables, id_bytes // ID_BYTES, rejects)


def _json(data: memoryview) -> Any:
    try:
        return json.loads(bytes(data))
    except ValueError as error:
        raise MalformedRecord(f"a section is not JSON: {error}") from None


def _entries(data: memoryview) -> None:
    try:
        for offset, log_time_us, event in _json(data):
            if type(offset) is not int or type(log_time_us) is not int:
                raise TypeError
            json.loads(event)
    except (ValueError, TypeError):
        raise MalformedRecord("a section of entries is not [offset, log time, event]") from None


def _rejects(data: memoryview, record: ValidRecord) -> list[Reject]:
    try:
        return [
            Reject(str(topic), int(offset), _VERDICTS[verdict], record.offset)
            for topic, offset, verdict, _ in _json(data)
        ]
    except (KeyError, ValueError, TypeError):
        raise MalformedRecord("REJECTS is not [topic, offset, verdict, detail]") from None


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive valid records of one segment. Frames carry `record`, the row of their record."""

    segment: Segment
    records: list[ValidRecord]
    offsets: NDArray[np.int64]
    """Journal offsets of the records."""
    log_times_s: NDArray[np.int64]
    """The clock that the records' headers name, in seconds, as rows carry it."""
    verdicts: NDArray[np.uint8]
    verdict_counts: NDArray[np.int64]
    """Verdicts by record."""
    ids: NDArray[np.int64]
    """New identities by record."""
    rejects: list[Reject]
    frames: dict[Section, pl.DataFrame]

    @property
    def events_from(self) -> int:
        """The first event offset that the block decides."""
        return self.records[0].header.events_from

    @property
    def events_to(self) -> int:
        """One past the last event offset that the block decides."""
        return self.records[-1].header.events_to

    def journal_offset(self, frame: pl.DataFrame) -> pl.Series:
        """Return the journal offset of each row's record."""
        return pl.Series("journal_offset", self.offsets[frame["record"].to_numpy()])


def make_block(opened: list[Opened]) -> Block:
    """Return the block that consists of these records, which are of one segment."""
    records = [one.record for one in opened]
    frames = {}
    for section, columns in TABLES.items():
        tables = [one.tables[section] for one in opened if section in one.tables]
        lengths = [one.tables[section].num_rows if section in one.tables else 0 for one in opened]
        record = np.repeat(np.arange(len(opened), dtype=np.int64), lengths)
        frames[section] = to_frame(tables, columns).with_columns(pl.Series("record", record))
    return Block(
        records[0].segment,
        records,
        np.array([record.offset for record in records], np.int64),
        np.array([record.header.clock_us // SECOND_US for record in records], np.int64),
        np.concatenate([one.verdicts for one in opened]),
        np.array([len(one.verdicts) for one in opened], np.int64),
        np.array([one.ids for one in opened], np.int64),
        [reject for one in opened for reject in one.rejects],
        frames,
    )


def blocks(records: Iterable[ValidRecord], reject: Callable[[int, str], None]) -> Iterator[Block]:
    """Yield blocks of `records`; a record that cannot be decoded is told to `reject`."""
    held: list[Opened] = []
    size = 0
    for record in records:
        if held and (
            record.segment != held[-1].record.segment
            or size >= BLOCK_BYTES
            or len(held) >= BLOCK_RECORDS
        ):
            yield make_block(held)
            held, size = [], 0
        try:
            held.append(open_record(record))
            size += len(record.value)
        except MalformedRecord as error:
            reject(record.offset, str(error))
    if held:
        yield make_block(held)


@dataclass(frozen=True, slots=True)
class Charged:
    """The charges of a block with their cells.

    `cell` points into the on-time cells of the block, then on into its late minutes.
    """

    rows: pl.DataFrame
    cell: NDArray[np.int64]


def cells_of(block: Block, section: Section) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the cell of the block that each row of a section points to, and whether it is late.

    They must point to cells of their own record: see `verify.check_cell_numbers`.
    """
    cells, late = block.frames[Section.CELLS], block.frames[Section.LATE_MINUTES]
    pointing = block.frames[section]
    on_time_rows = np.bincount(cells["record"], minlength=len(block.records))
    late_rows = np.bincount(late["record"], minlength=len(block.records))
    record = pointing["record"].to_numpy()
    number = pointing["cell"].to_numpy().astype(np.int64)
    first_on_time = np.cumsum(on_time_rows) - on_time_rows
    first_late = np.cumsum(late_rows) - late_rows + len(cells)
    is_late = number >= on_time_rows[record]
    cell = np.where(
        is_late,
        first_late[record] + number - on_time_rows[record],
        first_on_time[record] + number,
    )
    return cell, is_late


def charged(block: Block) -> Charged:
    """Return the charges of a block with the key columns of their cells, and `late`."""
    cells, late = block.frames[Section.CELLS], block.frames[Section.LATE_MINUTES]
    charges = block.frames[Section.CHARGES]
    record = charges["record"].to_numpy()
    cell, is_late = cells_of(block, Section.CHARGES)
    keys = pl.concat([cells.select(KEYS), late.select(KEYS)])
    journal_offset = block.offsets[record]
    return Charged(
        charges.drop("cell").with_columns(
            *keys[cell].get_columns(),
            pl.Series("late", np.where(is_late, journal_offset, -1)),
            pl.Series("journal_offset", journal_offset),
            pl.Series("log_time", block.log_times_s[record]),
        ),
        cell,
    )
