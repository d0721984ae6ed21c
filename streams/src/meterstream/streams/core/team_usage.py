"""What teams that belong to organisations used with a record, for the meter of organisations."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import Section
from meterstream.schemas.rows import TEAM_USAGE

from .arrow import encode_columns, text_array
from .cells import CellKey
from .corrections import Correction
from .totals import MEASURES
from .using import amounts_of_corrections

_I64 = NDArray[np.int64]

QUARTER_SECONDS: Final = 900
TEAM_USAGE_SCHEMA: Final = arrow_schema(TEAM_USAGE)
MEASURE_COLUMNS: Final = tuple(column.name for column in TEAM_USAGE[-len(MEASURES) :])
"""The columns of the amounts, in the order of MEASURES."""

OrganisationsOf = Callable[[str], tuple[str, ...]]
"""Returns a team's organisation and what that is part of, upwards."""


def encode_team_usage(
    keys: Sequence[CellKey],
    amounts: _I64,
    corrections: Sequence[Correction],
    organisations_of: OrganisationsOf,
) -> dict[Section, bytes]:
    """Return the section that tells it; none where no team of an organisation used anything.

    `amounts` is what was used by cell, shape (keys, MEASURES). Corrections come in rows of their
    own, before the others.
    """
    tables = []
    if corrections:
        corrected = _fold(*amounts_of_corrections(corrections), organisations_of)
        tables.append((1, corrected))
    tables.append((0, _fold(keys, amounts, organisations_of)))
    rows = [(corrects, *row) for corrects, (names, _) in tables for row in names]
    if not rows:
        return {}
    corrects, teams, chains, quarters = zip(*rows, strict=True)
    every = np.concatenate([sums for _, (_, sums) in tables])
    columns: dict[str, Any] = {
        "team_id": text_array(teams),
        "organisations": text_array(chains),
        "corrects": pa.array(corrects, pa.uint8()),
        "quarter_start": pa.array(np.array(quarters, np.int64) * 1_000_000).cast(
            pa.timestamp("us", tz="UTC")
        ),
    }
    columns |= {name: every[:, i].copy() for i, name in enumerate(MEASURE_COLUMNS)}
    return {Section.TEAM_USAGE: encode_columns(columns, TEAM_USAGE_SCHEMA)}


def _fold(
    keys: Sequence[CellKey], amounts: _I64, organisations_of: OrganisationsOf
) -> tuple[list[tuple[str, str, int]], _I64]:
    """Add up by team and quarter; return (team, its organisations, seconds) and the sums."""
    chains: dict[str, str | None] = {}
    index: dict[tuple[str, int], int] = {}
    which = np.full(len(keys), -1, np.int64)
    for i, key in enumerate(keys):
        team_id = key[1]
        if team_id not in chains:
            organisations = organisations_of(team_id)
            chains[team_id] = json.dumps(organisations) if organisations else None
        if chains[team_id] is not None:
            quarter = key[0] // QUARTER_SECONDS * QUARTER_SECONDS
            which[i] = index.setdefault((team_id, quarter), len(index))
    sums = np.zeros((len(index), len(MEASURES)), np.int64)
    np.add.at(sums, which[which >= 0], amounts[which >= 0])
    told: NDArray[np.bool_] = np.any(sums != 0, axis=1)
    names = [
        (team_id, chains[team_id] or "", quarter)
        for (team_id, quarter), tells in zip(index, told.tolist(), strict=True)
        if tells
    ]
    return names, sums[told]
