"""Running totals and reached levels as bytes, for snapshots and for a new generation."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .arrow import decode_rows, encode_columns
from .limits import Reached, Stand
from .totals import MEASURES, Subject, Totals
from .windows import Window

_WINDOW: Final = ("window", "start_us", "end_us")
_SUBJECT: Final = ("subject", "team_id", "subject_id")
_SCHEMA: Final = pa.schema(
    [
        pa.field("window", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in _WINDOW[1:]),
        *(
            pa.field(name, pa.dictionary(pa.int32(), pa.string()), nullable=False)
            for name in _SUBJECT
        ),
        *(pa.field(measure, pa.int64(), nullable=False) for measure in MEASURES),
    ]
)


KnownTotals = tuple[Window, Sequence[Subject], NDArray[np.int64]]
"""A window, and what each of some subjects used in it: shape (subjects, MEASURES)."""


def totals_of(totals: Totals) -> list[KnownTotals]:
    """Return all totals with the names of their subjects."""
    names = totals.subjects.names
    return [
        (window, [names[number] for number in used.subjects.tolist()], used.amounts)
        for window, used in totals.items()
    ]


def encode_totals(known: Sequence[KnownTotals]) -> bytes:
    """Return totals as an Arrow stream."""
    sizes = [len(subjects) for _, subjects, _ in known]
    windows = [window for window, _, _ in known]
    subjects = [subject for _, some, _ in known for subject in some]
    amounts = np.concatenate(
        [np.zeros((0, len(MEASURES)), np.int64), *(some for _, _, some in known)]
    )
    columns: dict[str, Any] = {
        "window": pa.array(np.repeat([window.kind for window in windows], sizes).tolist()),
        "start_us": np.repeat(np.array([one.start_us for one in windows], np.int64), sizes),
        "end_us": np.repeat(np.array([one.end_us for one in windows], np.int64), sizes),
    }
    columns |= {
        name: pa.array([subject[i] for subject in subjects], pa.string())
        for i, name in enumerate(_SUBJECT)
    }
    columns |= {measure: amounts[:, i].copy() for i, measure in enumerate(MEASURES)}
    return encode_columns(columns, _SCHEMA)


def decode_totals(data: bytes | memoryview) -> list[KnownTotals]:
    """Return what `encode_totals` wrote; MalformedRecord if it is none."""
    by_window: dict[Window, list[dict[str, Any]]] = {}
    for row in decode_rows(data, _SCHEMA):
        by_window.setdefault(Window(*(row[name] for name in _WINDOW)), []).append(row)
    return [
        (
            window,
            [(row["subject"], row["team_id"], row["subject_id"]) for row in rows],
            np.array([[row[measure] for measure in MEASURES] for row in rows], np.int64),
        )
        for window, rows in by_window.items()
    ]


def encode_reached(reached: Reached) -> bytes:
    """Return reached levels as JSON, in an order that does not depend on how they came about."""
    rows = [
        [window.kind, window.start_us, window.end_us, *key, level]
        for window in sorted(reached)
        for key, level in sorted(reached[window].items())
    ]
    return json.dumps(rows).encode()


def decode_reached(data: bytes | memoryview) -> list[Stand]:
    """Return what `encode_reached` wrote."""
    return [
        Stand((team_id, limit_id), Window(kind, start_us, end_us), level)
        for kind, start_us, end_us, team_id, limit_id, level in json.loads(bytes(data))
    ]
