"""The rows of the history: run events with their charges, and the sessions of agents by day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterstream.schemas import rows
from meterstream.schemas.pricing import ONE_PPM
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED
from meterstream.schemas.times import parse_rfc3339, to_us
from meterstream.schemas.verdicts import Verdict

from .batch import identity_columns
from .record import Decoded, charges_with_keys
from .run_events import RUN_TYPES, Event, EventData
from .windows import DAY_S, SECOND_US

_TEXT: Final = (
    "operation",
    "user_id",
    "agent_id",
    "project_id",
    "feature_id",
    "product",
    "session_id",
    "model",
    "provider",
    "caller",
    "status",
    "run_id",
    "error_code",
    "error_message",
    "input",
    "output",
)
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "request_bytes",
    "response_bytes",
)
_CHARGE: Final = (
    "credits_micro",
    *(one.name for one in rows.CHARGE_COMPONENTS if one.name != "session_micro"),
    "line",
    "multiplier_ppm",
    "amount_micro",
    "cost_micro",
)
_UNCHARGED: Final = {"line": -1, "multiplier_ppm": ONE_PPM}
"""What is not 0 where nothing is charged."""
_KEY: Final = tuple(column.name for column in rows.CELL_KEY if column.name != "window_start")
_TIME: Final = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class History:
    """What one journal record brings to the history; None where it brings nothing."""

    runs: pa.Table | None
    agent_sessions: pa.Table | None
    missing: int
    """Charged runs whose events are gone, or are not what was counted."""
    damaged: Sequence[int] = ()
    """Offsets of events that are not what was counted."""


def counted_offsets(decoded: Decoded) -> list[int]:
    """Return the offsets that the record counted."""
    counted = np.flatnonzero(decoded.verdicts == Verdict.COUNTED)
    return [int(offset) for offset in counted + decoded.record.header.events_from]


def make_history(decoded: Decoded, events: Mapping[int, Event]) -> History:
    """Return the history of a record, given its counted events by offset, as far as there are any.

    A completed run whose event is gone, or names another time or key than the journal, is made from
    its charge and its cell's key, and marked.
    """
    try:
        return _history(decoded, events)
    except ValueError:
        garbled = [offset for offset in counted_offsets(decoded) if not _has_times(events, offset)]
        whole = {offset: event for offset, event in events.items() if offset not in garbled}
        history = _history(decoded, whole)
        return replace(history, damaged=sorted({*history.damaged, *garbled}))


def _has_times(events: Mapping[int, Event], offset: int) -> bool:
    """Tell whether all times of an event can be read, if it is there."""
    event = events.get(offset)
    if event is not None:
        try:
            for text in (event.time, event.data.started_at, event.data.ended_at):
                parse_rfc3339(text or event.time)
        except ValueError:
            return False
    return True


def _history(decoded: Decoded, events: Mapping[int, Event]) -> History:
    charges = _of_runs(charges_with_keys(decoded))
    found = [offset for offset in counted_offsets(decoded) if offset in events]
    runs = [(offset, events[offset]) for offset in found if events[offset].type in RUN_TYPES]
    damaged = _damaged(runs, charges)
    if damaged:
        found = [offset for offset in found if offset not in damaged]
        runs = [(offset, event) for offset, event in runs if offset not in damaged]
    present = np.array([offset for offset, _ in runs], np.int64)
    tables = []
    missing = 0
    if runs:
        tables.append(_run_table(runs, charges))
    if charges is not None:
        gone = np.flatnonzero(~np.isin(charges["event_offset"].to_numpy(), present))
        missing = len(gone)
        if missing:
            tables.append(_missing_table(charges.take(pa.array(gone))))
    return History(
        _with_identity(decoded, pa.concat_tables(tables)) if tables else None,
        _agent_sessions(decoded, [events[offset] for offset in found]),
        missing,
        sorted(damaged),
    )


def _of_runs(charges: pa.Table | None) -> pa.Table | None:
    """Return the charges without those for session time; None if there is no other."""
    if charges is None:
        return None
    is_run = pc.not_equal(charges["operation"].cast(pa.string()), rows.SESSION_OPERATION)
    charges = charges.filter(is_run)
    return charges if charges.num_rows else None


def _damaged(runs: Sequence[tuple[int, Event]], charges: pa.Table | None) -> set[int]:
    """Return the offsets of completed runs that name another time or key than their charges."""
    completed = [(offset, event) for offset, event in runs if event.type == RUN_COMPLETED]
    if not completed or charges is None:
        return set()
    offsets = np.array([offset for offset, _ in completed], np.int64)
    charged = charges["event_offset"].to_numpy()
    at = np.minimum(np.searchsorted(charged, offsets), len(charged) - 1)
    differs = np.zeros(len(offsets), np.bool_)
    rows_at = charges.take(pa.array(at))
    times_us = _times_us([event.time for _, event in completed])
    differs |= rows_at["event_time"].cast(pa.int64()).to_numpy() != times_us
    for name in _KEY:
        told = pa.array([getattr(event.data, name) or "" for _, event in completed], pa.string())
        differs |= pc.not_equal(rows_at[name].cast(pa.string()), told).to_numpy()
    return set(offsets[differs & (charged[at] == offsets)].tolist())


def _run_table(runs: Sequence[tuple[int, Event]], charges: pa.Table | None) -> pa.Table:
    events = [event for _, event in runs]
    told = _columns(EventData.__struct_fields__, [event.data for event in events])
    envelope = _columns(Event.__struct_fields__, events)
    offsets = np.array([offset for offset, _ in runs], np.int64)
    times_us = _times_us(envelope["time"])
    started_us = _times_us(_filled(told["started_at"], envelope["time"]))
    ended_us = times_us
    if any(told["ended_at"]):
        ended_us = _times_us(_filled(told["ended_at"], envelope["time"]))
    latency_us = pc.coalesce(
        pa.array(told["latency_us"], pa.int64()), pa.array(ended_us - started_us)
    )
    is_completed = pc.equal(pa.array(envelope["type"], pa.string()), RUN_COMPLETED)
    columns: dict[str, pa.Array] = {
        "event_offset": pa.array(offsets),
        "event_time": pa.array(times_us).cast(_TIME),
        "event_type": pc.if_else(is_completed, *(pa.scalar(name) for name in _SHORT_TYPES)),
        "event_missing": pa.array(np.zeros(len(runs), np.uint8)),
        "source": pa.array(envelope["source"], pa.string()),
        "event_id": pa.array(envelope["id"], pa.string()),
        "team_id": pa.array(told["team_id"], pa.string()),
        "started_at": pa.array(started_us).cast(_TIME),
        "ended_at": pc.if_else(is_completed, pa.array(ended_us).cast(_TIME), None),
        "latency_us": pc.if_else(is_completed, latency_us, None),
        "first_token_us": pa.array(told["time_to_first_token_us"], pa.int64()),
        "tags": _maps(told["tags"], _TAGS),
        "quantities": _maps(told["quantities"], _QUANTITIES),
    }
    for name in _TEXT:
        columns[name] = pc.fill_null(pa.array(told[name], pa.string()), "")
    for name in _COUNTS:
        columns[name] = pc.fill_null(pa.array(told[name], pa.int64()), 0)
    columns |= _charge_columns(offsets, charges)
    return pa.table(columns).select(_SCHEMA.names).cast(_SCHEMA)


def _columns(names: Sequence[str], structs: Sequence[msgspec.Struct]) -> dict[str, list[Any]]:
    """Return the fields of structs of one type, column by column."""
    return {name: list(map(attrgetter(name), structs)) for name in names}


def _filled(texts: Sequence[str | None], others: Sequence[str]) -> list[str]:
    return [text or other for text, other in zip(texts, others, strict=True)]


def _maps(values: Sequence[dict[str, Any] | None], kind: pa.DataType) -> pa.Array:
    """Return maps; what is None is an empty one."""
    if not any(values):
        offsets = pa.array(np.zeros(len(values) + 1, np.int32))
        none = pa.array([], kind.key_type), pa.array([], kind.item_type)
        return pa.MapArray.from_arrays(offsets, *none)
    return pa.array([list(value.items()) if value else [] for value in values], kind)


def _charge_columns(offsets: np.ndarray, charges: pa.Table | None) -> dict[str, pa.Array]:
    """Return each run's charge; a run that is not completed has none."""
    if charges is None:
        none = {name: np.full(len(offsets), _UNCHARGED.get(name, 0)) for name in _CHARGE}
        return {"card": pa.repeat("", len(offsets)), **{n: pa.array(v) for n, v in none.items()}}
    charged = charges["event_offset"].to_numpy()
    at = np.minimum(np.searchsorted(charged, offsets), len(charged) - 1)
    is_charged = charged[at] == offsets
    columns = {
        name: pa.array(np.where(is_charged, charges[name].to_numpy()[at], _UNCHARGED.get(name, 0)))
        for name in _CHARGE
    }
    cards = charges["card"].cast(pa.string()).take(pa.array(at)).to_pylist()
    card = [name if own else "" for name, own in zip(cards, is_charged, strict=True)]
    return {"card": pa.array(card, pa.string()), **columns}


def _missing_table(charges: pa.Table) -> pa.Table:
    count = charges.num_rows
    known = set(charges.column_names)
    columns = {}
    for field in _SCHEMA:
        if field.name == "event_type":
            columns[field.name] = pa.repeat("completed", count)
        elif field.name == "event_missing":
            columns[field.name] = pa.array(np.ones(count, np.uint8))
        elif field.name == "started_at":
            columns[field.name] = charges["event_time"]
        elif field.name in known:
            columns[field.name] = charges[field.name]
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.repeat("", count)
        elif pa.types.is_map(field.type):
            columns[field.name] = pa.array([[]] * count, field.type)
        elif field.name in _COUNTS:
            columns[field.name] = pa.array(np.zeros(count, np.int64))
        else:
            columns[field.name] = pa.nulls(count, field.type)
    return pa.table(columns).cast(_SCHEMA)


def _agent_sessions(decoded: Decoded, events: Sequence[Event]) -> pa.Table | None:
    named = [event for event in events if event.data.session_id]
    if not named:
        return None
    days = _times_us([event.time for event in named]) // (DAY_S * SECOND_US)
    distinct = {
        (int(day), event.data.team_id, event.data.agent_id or "", event.data.session_id)
        for day, event in zip(days, named, strict=True)
    }
    columns = list(zip(*sorted(distinct), strict=True))
    table = pa.table(
        {
            "day": pa.array(columns[0], pa.int32()).cast(pa.date32()),
            "team_id": pa.array(columns[1], pa.string()),
            "agent_id": pa.array(columns[2], pa.string()),
            "session_id": pa.array(columns[3], pa.string()),
        }
    )
    return _with_identity(decoded, table)


def _with_identity(decoded: Decoded, table: pa.Table) -> pa.Table:
    record = decoded.record
    shared = identity_columns(
        table.num_rows,
        record.header.events_topic_id,
        record.header.generation,
        record.partition,
        record.header.clock_us,
        record.version,
    )
    for name, values in shared.items():
        table = table.append_column(name, values)
    return table


def _times_us(texts: Sequence[str]) -> np.ndarray:
    """Return RFC 3339 texts as microseconds since 1970."""
    try:
        parsed: np.ndarray = pa.array(texts, pa.string()).cast(_TIME).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # digits beyond microseconds, small letters: valid, and seldom
        return np.array([to_us(parse_rfc3339(text)) for text in texts], np.int64)
    return parsed


_SHORT_TYPES: Final = (RUN_TYPES[RUN_COMPLETED], RUN_TYPES[RUN_STARTED])
_TAGS: Final = pa.map_(pa.string(), pa.string())
_QUANTITIES: Final = pa.map_(pa.string(), pa.int64())
_SCHEMA: Final = pa.schema(
    [
        ("event_offset", pa.int64()),
        ("event_time", _TIME),
        ("event_type", pa.string()),
        ("event_missing", pa.uint8()),
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("team_id", pa.string()),
        ("started_at", _TIME),
        ("ended_at", _TIME),
        ("latency_us", pa.int64()),
        ("first_token_us", pa.int64()),
        ("tags", _TAGS),
        ("quantities", _QUANTITIES),
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.int64()) for name in _COUNTS),
        ("card", pa.string()),
        *((name, pa.int64()) for name in _CHARGE),
    ]
)
