"""Where limits stand, on the way to `limit-states`: of each limit the last state, encoded fast."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.control import LIMIT_REMOVED
from meterstream.schemas.journal import Link, MalformedRecord, Section
from meterstream.schemas.rows import LIMIT_STATE
from meterstream.schemas.thresholds import heartbeat_key
from meterstream.schemas.times import format_rfc3339, from_us

_SCHEMA: Final = arrow_schema(LIMIT_STATE)
_COLUMNS: Final = {name: i for i, name in enumerate(_SCHEMA.names)}
_NO_END: Final = "balance"
"""The window that does not end."""

Row = tuple[Any, ...]
"""One row of LIMIT_STATES, in the order of its columns, and the `as_of` of its record."""


class _AsOf(msgspec.Struct, gc=False):
    events_topic_id: UUID
    generation: int
    partition: int
    journal_offset: int
    events_position: int


class _State(msgspec.Struct, gc=False):
    """`LimitState`, field by field: a property test holds the two together."""

    team_id: str
    limit_id: str
    limit_version: int
    subject: str
    subject_id: str | msgspec.UnsetType
    measure: str
    window: str
    window_start: str
    window_end: str | msgspec.UnsetType
    amount: int
    as_of: msgspec.Raw
    enforcement: str
    state: str
    used: int
    reached_permille: int


class _Heartbeat(msgspec.Struct, gc=False):
    partition: int
    as_of: msgspec.Raw
    clock: str


_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a partition's usage was counted."""

    events_topic_id: UUID
    partition: int
    link: Link

    def as_of(self) -> msgspec.Raw:
        """Return it as the JSON of the contract's `AsOf`."""
        link = self.link
        return msgspec.Raw(
            _encode(
                _AsOf(
                    self.events_topic_id,
                    link.generation,
                    self.partition,
                    link.prev,
                    link.events_position,
                )
            )
        )

    def heartbeat(self) -> tuple[bytes, bytes]:
        """Return key and value of the heartbeat that tells it."""
        value = _Heartbeat(
            self.partition, self.as_of(), format_rfc3339(from_us(self.link.clock_us))
        )
        return heartbeat_key(self.partition).encode(), _encode(value)


class States:
    """The states of a partition's limits that are not published yet."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Row | None] = {}
        """By team and limit; None where the limit was removed."""

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, sections: dict[Section, memoryview], place: Place) -> None:
        """Take what a valid record tells of limits; `place` is up to where was counted with it.

        What removes a limit is an entry, and a row where it stood in a window: so the entries come
        first, and one that is set anew in the same record has a row. Raises MalformedRecord where
        the sections cannot be read.
        """
        clock_us = place.link.clock_us
        told: dict[tuple[str, str], Row | None] = {}
        try:
            if Section.CONTROL in sections:
                told.update((key, None) for key in _removed(sections[Section.CONTROL]))
            if Section.LIMIT_STATES in sections:
                rows = _rows(sections[Section.LIMIT_STATES], place.as_of())
                told.update(
                    ((row[0], row[1]), None if row[_REMOVED] else row)
                    for row in rows
                    if row[_REMOVED] or _holds(row, clock_us)
                )
        except (ValueError, TypeError, KeyError, OSError, pa.ArrowException) as error:
            raise MalformedRecord(
                f"what journal offset {place.link.prev} tells of limits cannot be read: {error}"
            ) from error
        self._rows.update(told)

    def records(self, clock_us: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield key and value of each state; without a value it is a tombstone.

        A window that ended while its state waited, by the clock, is left out: the state of the next
        one follows.
        """
        for key, row in self._rows.items():
            if row is None:
                yield _key(*key), None
            elif _holds(row, clock_us):
                yield _key(*key), _encode(_state(row))

    def clear(self) -> None:
        """Forget all of them: they are published."""
        self._rows.clear()


def _removed(control: memoryview) -> Iterator[tuple[str, str]]:
    """Yield team and limit of each limit that the control entries of a record remove."""
    for _, _, text in msgspec.json.decode(control, type=list[tuple[int, int, str]]):
        if LIMIT_REMOVED not in text:
            continue
        event = json.loads(text)
        if event["type"] == LIMIT_REMOVED and event["data"].get("team_id") is not None:
            yield event["data"]["team_id"], event["data"]["limit_id"]


def _rows(section: memoryview, as_of: msgspec.Raw) -> Iterator[Row]:
    table = pa.ipc.open_stream(pa.py_buffer(section)).read_all().combine_chunks()
    if not table.schema.equals(_SCHEMA):
        raise MalformedRecord(f"columns {table.schema.names} are not {_SCHEMA.names}")
    columns = [_values(column) for column in table.columns]
    return zip(*columns, repeat(as_of, len(columns[0])), strict=True)


def _values(column: Any) -> Sequence[Any]:
    """Return a column's values, without an Arrow scalar for each of them on the way."""
    if not len(column):
        return ()
    (values,) = column.chunks
    if pa.types.is_dictionary(values.type):
        words = np.array(values.dictionary.to_pylist(), object)
        return list(words[values.indices.to_numpy()].tolist())
    if pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    return list(values.to_numpy().tolist())


_WINDOW: Final = _COLUMNS["window"]
_START: Final = _COLUMNS["window_start"]
_END: Final = _COLUMNS["window_end"]
_REMOVED: Final = _COLUMNS["removed"]


def _holds(row: Row, clock_us: int) -> bool:
    """Tell whether the clock lies in the row's window."""
    return row[_WINDOW] == _NO_END or bool(row[_START] <= clock_us < row[_END])


def _state(row: Row) -> _State:
    (
        team_id, limit_id, version, subject, subject_id, measure, window, start_us, end_us, amount,
        enforcement, used, reached_permille, blocked, _, as_of,
    ) = row  # fmt: skip
    return _State(
        team_id,
        limit_id,
        version,
        subject,
        subject_id or msgspec.UNSET,
        measure,
        window,
        _text(start_us),
        msgspec.UNSET if window == _NO_END else _text(end_us),
        amount,
        as_of,
        enforcement,
        "blocked" if blocked else "admitting",
        used,
        reached_permille,
    )


@lru_cache(maxsize=1_000)
def _text(time_us: int) -> str:
    return format_rfc3339(from_us(time_us))


_compact: Final = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=100_000)
def _key(team_id: str, limit_id: str) -> bytes:
    """Return what `schemas.thresholds.state_key` returns for a team's limit."""
    return _compact(["team", team_id, limit_id]).encode()
