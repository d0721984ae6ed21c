"""One valid journal record, and the rows it brings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterstream.schemas import rows
from meterstream.schemas.journal import (
    Header,
    Kind,
    Link,
    MalformedRecord,
    Section,
    unpack_sections,
)
from meterstream.schemas.verdicts import Verdict

from .sections import read_table

EPOCH_FACTOR: Final = 2**40
GENERATION_FACTOR: Final = 2**54
"""A version is the generation times this, plus the leader epoch times EPOCH_FACTOR, plus the
journal offset: a journal made again begins at offset and epoch 0, but in a later generation."""
_MAX_EPOCH: Final = GENERATION_FACTOR // EPOCH_FACTOR - 1
_MAX_GENERATION: Final = 2**64 // GENERATION_FACTOR - 1


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A valid record as it was read; `link` is where the chain stands after it."""

    partition: int
    offset: int
    timestamp_us: int
    leader_epoch: int
    header: Header
    value: bytes
    link: Link

    @property
    def version(self) -> int:
        """The version of all rows of this record: later records have higher ones."""
        generation = min(self.header.generation, _MAX_GENERATION)
        epoch = min(self.leader_epoch, _MAX_EPOCH)
        return generation * GENERATION_FACTOR + epoch * EPOCH_FACTOR + self.offset


def leader_epoch_of(version: int) -> int:
    """Return the leader epoch that a version tells, which is a record's up to `_MAX_EPOCH`."""
    return version % GENERATION_FACTOR // EPOCH_FACTOR


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record's rows by kind; None where it has none."""

    record: JournalRecord
    verdicts: np.ndarray
    """One `Verdict` for each offset from `events_from` to `events_to`, uint8."""
    cells: pa.Table | None
    late_minutes: pa.Table | None
    late_quarters: pa.Table | None
    late_days: pa.Table | None
    charges: pa.Table | None
    sessions: pa.Table | None
    limit_states: pa.Table | None
    corrections: pa.Table | None
    accounts: pa.Table | None
    grants: pa.Table | None
    draws: pa.Table | None
    crossings: Sequence[Mapping[str, Any]]
    """What happened to limits and balances, as CROSSINGS tells it."""

    @property
    def row_count(self) -> int:
        """The rows of usage and charges, by which flushes are sized."""
        tables = (self.cells, self.late_minutes, self.charges)
        return sum(table.num_rows for table in tables if table is not None)

    @property
    def first_on_time_s(self) -> int | None:
        """The earliest minute (seconds since 1970) of the on-time cells."""
        if self.cells is None or self.cells.num_rows == 0:
            return None
        return int(pc.min(self.cells["window_start"]).value)


def decode(record: JournalRecord) -> Decoded:
    """Return the rows of `record`; MalformedRecord if the value is not what its header says."""
    header = record.header
    header.check_value(record.value)
    sections = unpack_sections(record.value)
    verdicts = np.frombuffer(sections.get(Section.VERDICTS, b""), np.uint8)
    if len(verdicts) != header.events_to - header.events_from:
        raise MalformedRecord(
            f"{len(verdicts)} verdicts for the offsets {header.events_from} to {header.events_to}"
        )
    unknown = np.setdiff1d(verdicts, _KNOWN_VERDICTS)
    if len(unknown):
        raise MalformedRecord(f"verdict {unknown[0]} is unknown here")

    def table(section: Section, columns: tuple[rows.Column, ...]) -> pa.Table | None:
        return read_table(sections[section], columns) if section in sections else None

    decoded = Decoded(
        record,
        verdicts,
        table(Section.CELLS, rows.CELL),
        table(Section.LATE_MINUTES, rows.CELL),
        table(Section.LATE_QUARTERS, rows.CELL),
        table(Section.LATE_DAYS, rows.CELL),
        table(Section.CHARGES, rows.CHARGE),
        table(Section.SESSIONS, rows.SESSION),
        table(Section.LIMIT_STATES, rows.LIMIT_STATE),
        table(Section.CORRECTIONS, rows.CORRECTION),
        table(Section.ACCOUNTS, rows.ACCOUNT),
        table(Section.GRANTS, rows.GRANT),
        table(Section.DRAWS, rows.DRAW),
        _crossings(sections),
    )
    assert header.kind is not Kind.IDLE or decoded.row_count == 0, "an idle record counts nothing"
    return decoded


def _crossings(sections: Mapping[Section, memoryview]) -> Sequence[Mapping[str, Any]]:
    try:
        found = json.loads(bytes(sections.get(Section.CROSSINGS, b"[]")))
    except ValueError as error:
        raise MalformedRecord(f"CROSSINGS is no JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise MalformedRecord("CROSSINGS is no list of objects")
    return found


def charges_with_keys(decoded: Decoded) -> pa.Table | None:
    """Return the charges with their cells' key columns and `late` in the place of `cell`.

    MalformedRecord if a charge points to no cell of the record.
    """
    return _with_keys(decoded, decoded.charges, "a charge")


def corrections_with_keys(decoded: Decoded) -> pa.Table | None:
    """Return the corrections in the same way."""
    return _with_keys(decoded, decoded.corrections, "a correction")


def _with_keys(decoded: Decoded, charges: pa.Table | None, what: str) -> pa.Table | None:
    if charges is None or charges.num_rows == 0:
        return None
    names = [column.name for column in rows.CELL_KEY]
    parts = [part for part in (decoded.cells, decoded.late_minutes) if part is not None]
    on_time = 0 if decoded.cells is None else decoded.cells.num_rows
    cell = charges["cell"].to_numpy()
    if not parts or cell.min() < 0 or cell.max() >= sum(part.num_rows for part in parts):
        raise MalformedRecord(f"{what} points to a cell that the record does not have")
    keys = pa.concat_tables([part.select(names) for part in parts])
    keys = keys.unify_dictionaries().combine_chunks().take(pa.array(cell))
    table = charges.drop_columns(["cell"])
    for name in names:
        table = table.append_column(name, keys[name])
    late = np.where(cell < on_time, -1, decoded.record.offset)
    return table.append_column("late", pa.array(late, pa.int64()))


_KNOWN_VERDICTS: Final = np.array([int(verdict) for verdict in Verdict], np.uint8)
