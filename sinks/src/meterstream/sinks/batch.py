"""The rows of one flush: what the records of all partitions bring, as one table a target."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterstream.schemas import rows
from meterstream.schemas.journal import Kind
from meterstream.schemas.verdicts import LEDGER_CLASSES, REJECTED, ledger_class, reason_name

from .draws import draws_of
from .limits import states_of, thresholds_of
from .newest import newest_rows
from .record import Decoded, charges_with_keys, corrections_with_keys
from .windows import SECOND_US

_CELL_IDENTITY = (*(column.name for column in rows.CELL_KEY), "generation", "partition")
_LIMIT_IDENTITY = ("team_id", "organisation_id", "limit_id", "window_start")
_ACCOUNT_IDENTITY = ("team_id",)
_GRANT_IDENTITY = ("team_id", "grant_id")
_SESSION_IDENTITY = ("team_id", "session_id")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a flush inserts, in Arrow; None where there is nothing."""

    minutes: pa.Table | None
    late_minutes: pa.Table | None
    late_quarters: pa.Table | None
    late_days: pa.Table | None
    charges: pa.Table | None
    sessions: pa.Table | None
    limit_states: pa.Table | None
    thresholds: pa.Table | None
    credits: Mapping[str, pa.Table | None]
    """By table: corrections, accounts, grants and draws."""
    ledger: pa.Table | None


def make_batch(records: Sequence[Decoded], stored_at_us: int) -> Batch:
    """Return the rows of `records`, which stand in journal order within each partition.

    Of a cell, a session, a limit, an account and a grant only the newest row is kept: they are
    absolute values.
    """
    minutes = _gather(records, lambda decoded: decoded.cells, late=False)
    sessions = _gather(records, lambda decoded: decoded.sessions)
    limits = _gather(records, states_of)
    accounts = _gather(records, lambda decoded: decoded.accounts)
    grants = _gather(records, lambda decoded: decoded.grants)
    return Batch(
        minutes=None if minutes is None else newest_rows(minutes, _CELL_IDENTITY),
        late_minutes=_gather(records, lambda decoded: decoded.late_minutes, late=True),
        late_quarters=_gather(records, lambda decoded: decoded.late_quarters, late=True),
        late_days=_gather(records, lambda decoded: decoded.late_days, late=True),
        charges=_gather(records, charges_with_keys),
        sessions=None if sessions is None else newest_rows(sessions, _SESSION_IDENTITY),
        limit_states=None if limits is None else newest_rows(limits, _LIMIT_IDENTITY),
        thresholds=_gather(records, thresholds_of),
        credits={
            "corrections": _gather(records, corrections_with_keys),
            "accounts": None if accounts is None else newest_rows(accounts, _ACCOUNT_IDENTITY),
            "grants": None if grants is None else newest_rows(grants, _GRANT_IDENTITY),
            "draws": _gather(records, draws_of),
        },
        ledger=_ledger(records, stored_at_us),
    )


def _gather(
    records: Iterable[Decoded],
    rows_of: Callable[[Decoded], pa.Table | None],
    late: bool | None = None,
) -> pa.Table | None:
    """Return the rows of all records in one table, each with its identity and version."""
    tables = []
    for decoded in records:
        table = rows_of(decoded)
        if table is None or table.num_rows == 0:
            continue
        record = decoded.record
        columns = identity_columns(
            table.num_rows,
            record.header.events_topic_id,
            record.header.generation,
            record.partition,
            record.header.clock_us,
            record.version,
        )
        if late is not None:
            columns["late"] = pa.repeat(
                pa.scalar(record.offset if late else -1, pa.int64()), table.num_rows
            )
        for name, values in columns.items():
            table = table.append_column(name, values)
        tables.append(table)
    if not tables:
        return None
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def identity_columns(
    count: int, topic_id: UUID, generation: int, partition: int, clock_us: int, version: int
) -> dict[str, pa.Array]:
    """Return the columns that all rows of one record share, `count` values each."""
    shared = {
        "events_topic_id": pa.scalar(topic_id.bytes, pa.binary(16)),
        "generation": pa.scalar(generation, pa.uint32()),
        "partition": pa.scalar(partition, pa.uint16()),
        "log_time": pa.scalar(clock_us // SECOND_US, pa.timestamp("s", "UTC")),
        "version": pa.scalar(version, pa.uint64()),
    }
    return {name: pa.repeat(value, count) for name, value in shared.items()}


def _ledger(records: Iterable[Decoded], stored_at_us: int) -> pa.Table | None:
    """Return one row a record; idle records decide nothing and have none."""
    found = [_ledger_row(one, stored_at_us) for one in records]
    rows_found = [row for row in found if row is not None]
    return pa.Table.from_pylist(rows_found, _LEDGER_SCHEMA) if rows_found else None


def _ledger_row(decoded: Decoded, stored_at_us: int) -> dict[str, object] | None:
    record = decoded.record
    header = record.header
    if header.kind is Kind.IDLE:
        return None
    counts = dict.fromkeys(LEDGER_CLASSES, 0)
    reasons = {}
    for verdict, count in enumerate(np.bincount(decoded.verdicts).tolist()):
        if count:
            counts[ledger_class(verdict)] += count
            if verdict >= REJECTED:
                reasons[reason_name(verdict)] = count
    charges = decoded.charges
    return {
        "events_topic_id": header.events_topic_id.bytes,
        "generation": header.generation,
        "partition": record.partition,
        "journal_offset": record.offset,
        "journal_prev": header.prev,
        "kind": header.kind.name.lower(),
        "events_from": header.events_from,
        "events_to": header.events_to,
        **counts,
        "rejected_reasons": list(reasons.items()),
        "charged_runs": 0 if charges is None else charges.num_rows,
        "charged_micro": 0
        if charges is None
        else pc.sum(charges["credits_micro"], min_count=0).as_py(),
        "clock": record.link.clock_us,
        "log_time": record.timestamp_us,
        "stored_at": stored_at_us,
        "version": record.version,
    }


_LEDGER_SCHEMA = pa.schema(
    [
        ("events_topic_id", pa.binary(16)),
        ("generation", pa.uint32()),
        ("partition", pa.uint16()),
        ("journal_offset", pa.int64()),
        ("journal_prev", pa.int64()),
        ("kind", pa.string()),
        ("events_from", pa.int64()),
        ("events_to", pa.int64()),
        *((name, pa.int64()) for name in LEDGER_CLASSES),
        ("rejected_reasons", pa.map_(pa.string(), pa.int64())),
        ("charged_runs", pa.int64()),
        ("charged_micro", pa.int64()),
        ("clock", pa.timestamp("us", "UTC")),
        ("log_time", pa.timestamp("us", "UTC")),
        ("stored_at", pa.timestamp("us", "UTC")),
        ("version", pa.uint64()),
    ]
)
