"""Completed runs as columns, and the rules that span fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas.fields import CONTROL_CHARACTERS, MAX_DURATION_US
from meterstream.schemas.run import END_TOLERANCE_US
from meterstream.schemas.sketch import UPPER

from .cells import CellKey
from .decode import TYPE_NUMBER, AnyEvent, Completed, CompletedData

_UPPER: Final = np.array(UPPER, np.int64)
_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
_MINUTE_US: Final = 60_000_000

YEAR_2_US: Final = -62_104_060_800_000_000
YEAR_9999_US: Final = 253_370_764_800_000_000
"""Times outside these years may leave the calendar when their offset is taken off."""


def times_to_us(times: Sequence[datetime]) -> NDArray[np.int64]:
    """Return aware datetimes as microseconds since 1970 (UTC)."""
    found: NDArray[np.int64] = pa.array(times, _MICROSECONDS).cast(pa.int64()).to_numpy()
    return found


@dataclass(frozen=True, slots=True)
class RunColumns:
    """Completed runs, one position a run in all arrays."""

    duration_us: NDArray[np.int64]
    latency_us: NDArray[np.int64]
    """-1 where there is none: session time has no latency."""
    first_token_us: NDArray[np.int64]
    """-1 where a run names none."""
    failed: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]
    reasoning_tokens: NDArray[np.int64]
    request_bytes: NDArray[np.int64]
    response_bytes: NDArray[np.int64]
    explicit_micro: NDArray[np.int64]
    """-1 where a run names no credits."""
    inconsistent: NDArray[np.bool_]
    """Runs that break a rule between fields: the models name it."""

    def latency_bucket(self) -> NDArray[np.int64]:
        """Return the sketch bucket of each run's latency, -1 without one."""
        bucket = np.searchsorted(_UPPER, self.latency_us)
        bucket[self.latency_us < 0] = -1
        return bucket

    def first_token_bucket(self) -> NDArray[np.int64]:
        """Return the sketch bucket of each run's time to first token, -1 without one."""
        bucket = np.searchsorted(_UPPER, self.first_token_us)
        bucket[self.first_token_us < 0] = -1
        return bucket


def run_columns(events: Sequence[Completed], times_us: NDArray[np.int64]) -> RunColumns:
    """Return the columns of completed runs whose event times are `times_us`."""
    datas = [event.data for event in events]
    started_us = times_to_us([data.started_at for data in datas])
    ended = [data.ended_at for data in datas]
    ended_us = times_us
    if any(moment is not None for moment in ended):
        ended_us = times_to_us(
            [moment or event.time for moment, event in zip(ended, events, strict=True)]
        )
    duration_us = ended_us - started_us
    told_us = _optional([data.latency_us for data in datas])
    latency_us = np.where(told_us < 0, duration_us, told_us)
    first_token_us = _optional([data.time_to_first_token_us for data in datas])
    input_tokens = _ints([data.input_tokens for data in datas])
    output_tokens = _ints([data.output_tokens for data in datas])
    cached_tokens = _ints([data.cached_tokens for data in datas])
    reasoning_tokens = _ints([data.reasoning_tokens for data in datas])
    inconsistent = (
        (cached_tokens > input_tokens)
        | (reasoning_tokens > output_tokens)
        | ((told_us >= 0) & (first_token_us > told_us))
        | (duration_us < 0)
        | (duration_us > MAX_DURATION_US)
        | (np.abs(ended_us - times_us) > END_TOLERANCE_US)
        | _near_the_calendars_end(started_us)
        | _near_the_calendars_end(ended_us)
    )
    return RunColumns(
        duration_us,
        latency_us,
        first_token_us,
        _ints([data.status == "failed" for data in datas]),
        input_tokens,
        output_tokens,
        cached_tokens,
        reasoning_tokens,
        _ints([data.request_bytes for data in datas]),
        _ints([data.response_bytes for data in datas]),
        _optional([data.credits_micro for data in datas]),
        inconsistent,
    )


def cell_keys(datas: Sequence[CompletedData], times_us: NDArray[np.int64]) -> list[CellKey]:
    """Return for each run the key of the cell, of a minute, that it belongs to."""
    minutes = (times_us // _MINUTE_US * 60).tolist()
    return [
        (
            minute,
            data.team_id,
            data.user_id or "",
            data.project_id or "",
            data.agent_id or "",
            data.model or "",
            data.provider or "",
            data.feature_id or "",
            data.product or "",
            data.operation,
        )
        for minute, data in zip(minutes, datas, strict=True)
    ]


def _near_the_calendars_end(times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (times_us < YEAR_2_US) | (times_us >= YEAR_9999_US)


def _ints(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _optional(values: Sequence[int | None]) -> NDArray[np.int64]:
    return np.array([-1 if value is None else value for value in values], np.int64)


def may_hold_control_characters(value: bytes) -> bool:
    """Tell whether JSON bytes could hold a control character: escaped, or raw above ASCII.

    A JSON string holds those below U+0020 only as escapes; U+007F and U+0080 to U+009F may stand
    in it raw, the latter with 0xC2 in front in UTF-8.
    """
    return b"\\" in value or b"\x7f" in value or b"\xc2" in value


def holds_control_characters(event: AnyEvent) -> bool:
    """Tell whether a name in the event holds a control character. Free texts may."""
    names, maps = _NAMES[type(event.data)](event.data), _MAPS[type(event.data)]
    texts = [event.id, event.source, event.dataschema or "", event.subject or ""]
    texts += [name for name in names if name]
    for field in maps:
        entries = getattr(event.data, field)
        if entries:
            texts.extend(entries)
            texts.extend(text for text in entries.values() if isinstance(text, str))
    return CONTROL_CHARACTERS.search(" ".join(texts)) is not None


_FREE_TEXTS: Final = frozenset({"input", "output", "error_message"})
"""These may hold control characters: they are what people and models wrote."""


def _fields_of(data: type, kind: type[msgspec.inspect.Type]) -> list[str]:
    """Return the fields of a struct that hold a type, alone or among others."""
    info = msgspec.inspect.type_info(data)
    assert isinstance(info, msgspec.inspect.StructType), "the data of an event is a struct"
    return [
        field.name
        for field in info.fields
        for one in (
            field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
        )
        if isinstance(one, kind)
    ]


_DATA: Final = [
    field.type.cls
    for event in TYPE_NUMBER
    for field in msgspec.inspect.type_info(event).fields  # type: ignore[attr-defined]
    if field.name == "data"
]
_NAMES: Final = {
    data: attrgetter(
        *(n for n in _fields_of(data, msgspec.inspect.StrType) if n not in _FREE_TEXTS)
    )
    for data in _DATA
}
_MAPS: Final = {data: _fields_of(data, msgspec.inspect.DictType) for data in _DATA}
