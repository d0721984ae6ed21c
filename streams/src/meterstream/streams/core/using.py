"""What a record used by event and by subject: before it is written, and from what it says.

Both must come to the same, so that totals are the same whether a state was there or restored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.rows import CELL_SUMS

from .cells import NO_CELLS, CellKey, CellValues, OpenCells
from .corrections import Correction
from .pricing import Priced
from .running import Uses
from .sessions import Session, SessionKey
from .totals import MEASURES, Totals, Used, ZoneOf
from .windows import Window

_I64 = NDArray[np.int64]

_API_CALL = "api_call"
_SESSION = ""
"""The operation of what stands for the start of a session: no run has none."""
_RUNS, _INPUT, _OUTPUT, _CREDITS = (
    [column.name for column in CELL_SUMS].index(name)
    for name in ("runs", "input_tokens", "output_tokens", "credits_micro")
)


def started(
    before: Callable[[SessionKey], Session | None], sessions: Sequence[Session]
) -> list[Session]:
    """Return those of the changed sessions whose start is new: each counts once."""
    return [
        session
        for session in sessions
        if session.start_seen
        and not ((known := before(session.key)) is not None and known.start_seen)
    ]


def uses_of(
    runs: Priced, measures: _I64, counted: NDArray[np.bool_], starts: Sequence[tuple[int, Session]]
) -> tuple[Uses, _I64]:
    """Return what the counted runs and new sessions of a batch used, in the order of their offsets.

    `measures` has shape (SUMS, runs). `starts` says at which of the valid events a session
    started. Returns the uses, and which of the valid events each of them is.
    """
    chosen = np.flatnonzero(counted)
    keys = list(runs.keys)
    keys += [_key_of(session) for _, session in starts]
    cell = np.concatenate((runs.cell[chosen], np.arange(len(runs.keys), len(keys), dtype=np.int64)))
    at = np.concatenate((runs.at[chosen], np.array([at for at, _ in starts], np.int64)))
    amounts = np.zeros((len(cell), len(MEASURES)), np.int64)
    n = len(chosen)
    api_call = np.array([key[9] == _API_CALL for key in runs.keys], np.bool_)
    amounts[:n] = _amounts(measures[:, chosen].T, api_call[runs.cell[chosen]])
    amounts[n:, MEASURES.index("sessions")] = 1
    order = np.argsort(at, kind="stable")
    used_keys, used_cell = np.unique(cell[order], return_inverse=True)
    return Uses([keys[i] for i in used_keys.tolist()], used_cell, amounts[order]), at[order]


def _amounts(sums: _I64, api_call: NDArray[np.bool_]) -> _I64:
    """Return amounts, shape (n, MEASURES), from sums of shape (n, SUMS)."""
    found = np.zeros((len(sums), len(MEASURES)), np.int64)
    found[:, 0] = sums[:, _CREDITS]
    found[:, 1] = sums[:, _INPUT] + sums[:, _OUTPUT]
    found[:, 2] = sums[:, _RUNS]
    found[:, 3] = np.where(api_call, sums[:, _RUNS], 0)
    return found


def _key_of(session: Session) -> CellKey:
    minute = session.started_us // 60_000_000 * 60
    return (
        minute, session.team_id, session.user_id, session.project_id, session.agent_id,
        "", "", "", session.product, _SESSION,
    )  # fmt: skip


def used_by_corrections(
    corrections: Sequence[Correction], totals: Totals, zone_of: ZoneOf, over_us: int
) -> dict[Window, Used]:
    """Return what corrections add, or take back, by window and subject.

    Windows that ended at `over_us` or before are left out: nobody knows their totals any more.
    """
    if not corrections:
        return {}
    every = totals.by_window(*amounts_of_corrections(corrections), zone_of)
    return {window: used for window, used in every.items() if window.end_us > over_us}


def amounts_of_corrections(corrections: Sequence[Correction]) -> tuple[list[CellKey], _I64]:
    """Return the cells that corrections belong to, and what each adds: (corrections, MEASURES)."""
    keys = [one.key for one in corrections]
    api_call = np.array([key[9] == _API_CALL for key in keys], np.bool_)
    return keys, _amounts(np.array([one.sums for one in corrections], np.int64), api_call)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record says of usage: absolute cells, late ones by themselves, changed sessions."""

    cells: CellValues = NO_CELLS
    late: CellValues = NO_CELLS
    sessions: Sequence[Session] = ()


def used_by(
    record: Recorded,
    cells: OpenCells,
    totals: Totals,
    session_before: Callable[[SessionKey], Session | None],
    zone_of: ZoneOf,
) -> dict[Window, Used]:
    """Return what a record used by window and subject, before it is taken into the state."""
    keys, amounts = amounts_of_record(record, cells, session_before)
    return totals.by_window(keys, amounts, zone_of) if keys else {}


def amounts_of_record(
    record: Recorded, cells: OpenCells, session_before: Callable[[SessionKey], Session | None]
) -> tuple[list[CellKey], _I64]:
    """Return the cells that a record says something of, and what each used: (cells, MEASURES)."""
    starts = started(session_before, record.sessions)
    keys = [*record.cells.keys, *record.late.keys, *map(_key_of, starts)]
    if not keys:
        return [], np.zeros((0, len(MEASURES)), np.int64)
    sums = np.concatenate((cells.added(record.cells), record.late.sums))
    api_call = np.array([key[9] == _API_CALL for key in keys[: len(sums)]], np.bool_)
    amounts = np.zeros((len(keys), len(MEASURES)), np.int64)
    amounts[: len(sums)] = _amounts(sums, api_call)
    amounts[len(sums) :, MEASURES.index("sessions")] = 1
    return keys, amounts
