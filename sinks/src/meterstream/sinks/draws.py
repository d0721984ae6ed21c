"""The rows of draws: which grants paid for which charge or correction."""

import numpy as np
import pyarrow as pa

from meterstream.schemas.journal import MalformedRecord

from .record import Decoded


def draws_of(decoded: Decoded) -> pa.Table | None:
    """Return a record's draws, each with the offset of its event or of its correction.

    MalformedRecord if one is of a charge that the record does not have.
    """
    draws = decoded.draws
    if draws is None or draws.num_rows == 0:
        return None
    charge = draws["charge"].to_numpy()
    events = _offsets(decoded.charges, "event_offset")
    corrections = _offsets(decoded.corrections, "control_offset")
    if charge.min() < -1 or charge.max() >= len(events) + len(corrections):
        raise MalformedRecord("a draw is of a charge that the record does not have")
    none = np.full(1, -1, np.int64)
    event = np.concatenate((events, np.full(len(corrections), -1, np.int64), none))[charge]
    control = np.concatenate((np.full(len(events), -1, np.int64), corrections, none))[charge]
    table = draws.drop_columns(["charge"])
    for name, values in (
        ("event_offset", event),
        ("control_offset", control),
        ("journal_offset", np.full(len(charge), decoded.record.offset, np.int64)),
        ("number", np.arange(len(charge), dtype=np.int64)),
    ):
        table = table.append_column(name, pa.array(values))
    return table


def _offsets(table: pa.Table | None, name: str) -> np.ndarray:
    if table is None:
        return np.zeros(0, np.int64)
    offsets: np.ndarray = table[name].to_numpy()
    return offsets
