"""Runs the meter's core on records as a meter would, and reads its journal records back.

Batch borders, restarts and the way a state is restored are chosen by a seed. What the records say
is decoded here from their bytes, without the core's own reader.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any
from uuid import UUID

import pyarrow as pa

from meterstream.schemas.journal import Chain, Header, Section, unpack_sections
from meterstream.schemas.rows import CELL_KEY, CELL_SKETCHES, CELL_SUMS
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.core import (
    PORTION,
    Entry,
    EventBatch,
    PartitionState,
    Policy,
    Step,
    apply_record,
    apply_step,
    begin,
    compute_step,
    genesis_step,
    idle_step,
    load_snapshot,
    read_manifest,
    take_snapshot,
)
from meterstream.streams.core.accounts import Account

from .model import CellKey, Charge, Counted, Record, Usage

_CHARGED = [one.name for one in fields(Charge)]

EVENTS_TOPIC = UUID(int=1)
JOURNAL_TOPIC = UUID(int=2)
CONTROL_TOPIC = UUID(int=3)
CATALOG_TOPIC = UUID(int=4)


def read_table(data: memoryview) -> list[dict[str, Any]]:
    """Return the rows of an Arrow section; times as integers, sketches as counters."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        table = reader.read_all()
    for i, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(i, column.name, table.column(i).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in row.keys() & {"latency_sketch", "first_token_sketch"}:
            row[name] = Counter(dict(row[name]))
    return rows


def cell_rows(data: memoryview) -> list[tuple[int, tuple[str, ...], Usage]]:
    """Return the window start in seconds, the dimensions and the usage of each cell."""
    return [
        (
            row["window_start"],
            tuple(row[column.name] for column in CELL_KEY[1:]),
            Usage(**{column.name: row[column.name] for column in (*CELL_SUMS, *CELL_SKETCHES)}),
        )
        for row in read_table(data)
    ]


@dataclass
class Reader:
    """Follows a journal as the sink does and adds up what its records say."""

    counted: Counted = field(default_factory=Counted)
    late_quarters: dict[CellKey, Usage] = field(default_factory=dict)
    late_days: dict[CellKey, Usage] = field(default_factory=dict)
    charge_keys: dict[int, CellKey] = field(default_factory=dict)
    details: dict[int, str] = field(default_factory=dict)
    ids: int = 0

    def read(self, header: Header, value: bytes) -> None:
        """Take a valid record."""
        header.check_value(value)
        sections = unpack_sections(value)
        for offset, verdict in enumerate(sections.get(Section.VERDICTS, b""), header.events_from):
            assert offset not in self.counted.verdicts, "an offset has one verdict"
            self.counted.verdicts[offset] = Verdict(verdict)
        keys: list[CellKey] = []
        for start, dimensions, usage in self._cells(sections, Section.CELLS):
            keys.append((False, start, dimensions))
            self.counted.cells[keys[-1]] = usage
        for section, target in (
            (Section.LATE_MINUTES, self.counted.cells),
            (Section.LATE_QUARTERS, self.late_quarters),
            (Section.LATE_DAYS, self.late_days),
        ):
            for start, dimensions, usage in self._cells(sections, section):
                key = (True, start, dimensions)
                if section is Section.LATE_MINUTES:
                    keys.append(key)
                target.setdefault(key, Usage()).add(usage)
        self._read_charges(sections, keys)
        self.ids += len(sections.get(Section.IDS, b"")) // 24
        self.counted.clock_us = header.clock_us

    def _cells(
        self, sections: Mapping[Section, memoryview], section: Section
    ) -> list[tuple[int, tuple[str, ...], Usage]]:
        return cell_rows(sections[section]) if section in sections else []

    def _read_charges(self, sections: Mapping[Section, memoryview], keys: list[CellKey]) -> None:
        if Section.CHARGES not in sections:
            return
        rows = read_table(sections[Section.CHARGES])
        offsets = [row["event_offset"] for row in rows]
        assert offsets == sorted(set(offsets)), "charges stand in offset order"
        for row in rows:
            charge = Charge(**{name: row[name] for name in _CHARGED})
            assert charge.credits_micro == row["credits_micro"], "the components make the sum"
            self.counted.charges[row["event_offset"]] = charge
            key = keys[row["cell"]]
            assert key[1] == row["event_time"] // 60_000_000 * 60, "a charge names its cell"
            self.charge_keys[row["event_offset"]] = key


class CoreMeter:
    """A meter of one partition with a journal in memory."""

    def __init__(self, policy: Policy, partition: int, *, clock_us: int = 0) -> None:
        self.policy = policy
        self.partition = partition
        self.journal: list[tuple[int, int, bytes, bytes]] = []
        """Offset, log time, packed header and value of each record."""
        self.reader = Reader()
        genesis = genesis_step(
            grace_seconds=policy.grace_seconds,
            generation=1,
            events_topic_id=EVENTS_TOPIC,
            journal_topic_id=JOURNAL_TOPIC,
            control_topic_id=CONTROL_TOPIC,
            catalog_topic_id=CATALOG_TOPIC,
            events_from=0,
            clock_us=clock_us,
        )
        offset, log_time_us = self._append(genesis, clock_us)
        self.state = begin(policy, partition, offset, log_time_us, genesis)
        self._snapshot = take_snapshot(self.state)

    def step(
        self,
        batch: EventBatch | None,
        now_us: int,
        catalog: Sequence[Entry] = (),
        control: Sequence[Entry] = (),
        portion: int = PORTION,
    ) -> Step:
        """Compute a step, write it and take it in."""
        step = compute_step(
            self.state,
            batch,
            catalog=catalog,
            control=control,
            catalog_to=catalog[-1].offset + 1 if catalog else None,
            control_to=control[-1].offset + 1 if control else None,
            now_us=now_us,
            portion=portion,
        )
        self.commit(step, now_us)
        return step

    def idle(self, now_us: int) -> None:
        """Write an idle record that the broker appends at `now_us`."""
        self.commit(idle_step(self.state, now_us), now_us)

    def commit(self, step: Step, now_us: int) -> None:
        """Write a step's record, then take it into the state."""
        offset, log_time_us = self._append(step, now_us)
        apply_step(self.state, step, offset, log_time_us)
        self.reader.read(step.header, step.value)

    def restart(self, how: str) -> None:
        """Lose the state and restore it: from the `journal`, or a `snapshot` new or `old`."""
        if how == "journal":
            self.state = self._replayed(None, self.journal)
            return
        if how == "snapshot":
            self._snapshot = take_snapshot(self.state)
        taken_at = read_manifest(self._snapshot.manifest).journal_offset
        state = load_snapshot(self.policy, self._snapshot.manifest, self._snapshot.segments)
        self.state = self._replayed(state, [r for r in self.journal if r[0] > taken_at])

    def _replayed(
        self, state: PartitionState | None, records: Iterable[tuple[int, int, bytes, bytes]]
    ) -> PartitionState:
        chain = Chain(state.link if state is not None else None)
        for offset, log_time_us, packed, value in records:
            header = Header.unpack(packed)
            assert chain.take(offset, log_time_us, header), "the harness writes valid records"
            state = apply_record(
                self.policy, self.partition, state, offset, log_time_us, header, value
            )
        assert state is not None, "a journal begins with a genesis record"
        return state

    def _append(self, step: Step, now_us: int) -> tuple[int, int]:
        offset = self.journal[-1][0] + 1 if self.journal else 0
        log_time_us = now_us // 1000 * 1000
        self.journal.append((offset, log_time_us, step.header.pack(), step.value))
        return offset, log_time_us


def batches(
    records: Sequence[Record], borders: Iterable[int], *, start: int = 0, log_start: int = 0
) -> list[EventBatch]:
    """Return the records cut before each position in `borders`.

    The gap before a record belongs to its own batch or to the one before, as its offset decides.
    """
    cuts = sorted({0, len(records), *(b for b in borders if 0 < b < len(records))})
    cut: list[EventBatch] = []
    for first, last in pairwise(cuts):
        part = records[first:last]
        end = part[-1].offset + 1
        if last < len(records) and end % 2:  # the gap that follows may go to either batch
            end = records[last].offset
        cut.append(
            EventBatch(
                start,
                end,
                [record.offset for record in part],
                [record.log_time_us for record in part],
                [record.value for record in part],
                log_start,
            )
        )
        start = end
    return cut


def run_core(
    records: Sequence[Record],
    policy: Policy,
    partition: int,
    *,
    now_us: int,
    seed: int = 0,
    mean_batch: int = 500,
    restarts: bool = True,
    log_start: int = 0,
    clock_us: int = 0,
    cards: Mapping[int, Sequence[bytes]] | None = None,
) -> CoreMeter:
    """Return a meter that has counted all records, in batches and with restarts as `seed` says.

    `cards` holds the rate cards by the offset of the first event that they may price.
    """
    rng = random.Random(seed)
    meter = CoreMeter(policy, partition, clock_us=clock_us)
    published = dict(cards or {})
    number = max(1, len(records) // mean_batch)
    borders = {rng.randrange(len(records)) for _ in range(number)} if records else set()
    borders |= {i for i, record in enumerate(records) if record.offset in published}
    catalog_position = 0
    for batch in batches(records, borders, log_start=log_start):
        first = batch.offsets[0] if batch.offsets else batch.start
        entries = [
            Entry(catalog_position + i, clock_us, None, card)
            for i, card in enumerate(published.pop(first, ()))
        ]
        catalog_position += len(entries)
        meter.step(batch, now_us, entries)
        if restarts and rng.random() < 0.3:
            meter.restart(rng.choice(("journal", "snapshot", "old")))
    return meter


def contents_of(state: PartitionState) -> dict[str, object]:
    """Return all that a state knows, in a form that does not depend on how it came about."""
    values = state.cells.values()
    sketches = zip(values.latency, values.first_token, strict=True)
    return {
        "link": state.link,
        "positions": (state.control_position, state.catalog_position),
        "last event": state.last_event,
        "cells": {
            key: (tuple(sums), latency, first_token)
            for key, sums, (latency, first_token) in zip(
                values.keys, values.sums.tolist(), sketches, strict=True
            )
        },
        "ids": {
            (hi, lo, content, run.hour)
            for run in state.dedup.runs()
            for hi, lo, content in zip(
                run.hi.tolist(), run.lo.tolist(), run.content.tolist(), strict=True
            )
        },
        "sessions": state.sessions,
        "catalog": state.entries.catalog,
        "control": state.control.kept,
        "corrected": state.control.corrected.to_bytes(),
        "accounts": {account.team_id: _contents_of(account) for account in state.ledger},
        "due": state.ledger.due_us,
        "ahead": state.ledger.ahead,
        "totals": {
            (window, state.totals.subjects.names[subject]): tuple(amounts)
            for window, used in state.totals.items()
            for subject, amounts in zip(used.subjects.tolist(), used.amounts.tolist(), strict=True)
        },
        "reached": state.reached,
        "told": (state.told_us, state.is_untold, state.telling),
        "cards": state.entries.book.labels,
    }


def _contents_of(account: Account) -> dict[str, object]:
    found: dict[str, object] = asdict(account)
    for name in ("open", "spent", "waiting"):
        found[name] = sorted(getattr(account, name), key=lambda grant: grant.number)
    return found
