"""The sections of the journal of organisations: what each used, and up to where teams are in it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.rows import ORGANISATION_USAGE

from .arrow import decode_rows, encode_columns, text_array
from .cells import CellKey
from .team_usage import MEASURE_COLUMNS
from .totals import MEASURES

_I64 = NDArray[np.int64]

ORGANISATION_USAGE_SCHEMA: Final = arrow_schema(ORGANISATION_USAGE)


class UpTo(NamedTuple):
    """Up to where the usage of one events partition is part of what is known."""

    events_topic_id: str
    generation: int
    partition: int
    journal_offset: int
    events_position: int


@dataclass(frozen=True, slots=True)
class OrganisationUsage:
    """What organisations used, by quarter of an hour."""

    keys: Sequence[CellKey]
    """The organisation stands in the place of the team; none twice."""
    amounts: _I64
    """Shape (keys, MEASURES)."""


def key_of(organisation_id: str, quarter_us: int) -> CellKey:
    """Return the cell of an organisation and a quarter of an hour."""
    return quarter_us // 1_000_000, organisation_id, "", "", "", "", "", "", "", ""


def folded(keys: Sequence[CellKey], amounts: _I64) -> OrganisationUsage:
    """Add up amounts, shape (keys, MEASURES), by their keys."""
    index: dict[CellKey, int] = {}
    which = np.array([index.setdefault(key, len(index)) for key in keys], np.int64)
    sums = np.zeros((len(index), len(MEASURES)), np.int64)
    np.add.at(sums, which, amounts)
    return OrganisationUsage(list(index), sums)


def encode_organisation_usage(usage: OrganisationUsage) -> bytes:
    """Return the ORGANISATION_USAGE section."""
    starts = np.array([key[0] for key in usage.keys], np.int64) * 1_000_000
    columns: dict[str, Any] = {
        "organisation_id": text_array([key[1] for key in usage.keys]),
        "quarter_start": pa.array(starts).cast(pa.timestamp("us", tz="UTC")),
    }
    columns |= {name: usage.amounts[:, i].copy() for i, name in enumerate(MEASURE_COLUMNS)}
    return encode_columns(columns, ORGANISATION_USAGE_SCHEMA)


def decode_organisation_usage(data: bytes | memoryview) -> OrganisationUsage:
    """Return what `encode_organisation_usage` wrote; MalformedRecord if it is none."""
    rows = decode_rows(data, ORGANISATION_USAGE_SCHEMA)
    amounts = np.array([[row[name] for name in MEASURE_COLUMNS] for row in rows], np.int64)
    return OrganisationUsage(
        [
            key_of(row["organisation_id"], round(row["quarter_start"].timestamp()) * 1_000_000)
            for row in rows
        ],
        amounts.reshape(-1, len(MEASURES)),
    )


def encode_counted(counted: Sequence[UpTo]) -> bytes:
    """Return the COUNTED section."""
    return json.dumps(counted).encode()


def decode_counted(data: bytes | memoryview) -> tuple[UpTo, ...]:
    """Return what `encode_counted` wrote."""
    return tuple(UpTo(*row) for row in json.loads(bytes(data)))
