"""The verdict on each event of a batch: counted, seen before, or too early or late to count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.verdicts import Verdict

from .dedup import Dedup, Ids, expiry_us
from .policy import HOUR_US, Policy

_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict for each event, and the identities that are new."""

    verdicts: NDArray[np.uint8]
    ids: Ids


def judge_identities(
    dedup: Dedup,
    policy: Policy,
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    content: NDArray[np.uint32],
    times_us: _I64,
    clocks_us: _I64,
    unless: NDArray[np.uint8],
) -> Judged:
    """Judge events in the order of their offsets.

    `unless` holds, for an event that is new, the verdict it would get: COUNTED, or why it cannot
    be counted. Only counted events enter the identities. An identity that is known at the clock
    of an event makes it a duplicate or a conflict, whatever else is wrong with it.
    """
    hours = (times_us // HOUR_US).astype(np.int64)
    order = np.argsort(hi, kind="stable")
    known, known_content, expiry = dedup.find(hi[order], lo[order])
    known &= clocks_us[order] < expiry
    verdicts = unless.copy()
    where = order[known]
    same = known_content[known] == content[where]
    verdicts[where] = np.where(same, Verdict.DUPLICATE, Verdict.CONFLICT)
    _judge_repeated(order, hi, lo, content, hours, clocks_us, verdicts, policy.horizon_us)
    new = order[verdicts[order] == Verdict.COUNTED]
    return Judged(verdicts, Ids(hi[new], lo[new], content[new], hours[new].astype(np.uint32)))


def _judge_repeated(
    order: _I64,
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    content: NDArray[np.uint32],
    hours: _I64,
    clocks_us: _I64,
    verdicts: NDArray[np.uint8],
    horizon_us: int,
) -> None:
    """Settle identities that occur more than once in the batch, in the order of their offsets."""
    sorted_hi = hi[order]
    equal = sorted_hi[1:] == sorted_hi[:-1]
    if not equal.any():
        return
    repeated = np.zeros(len(hi), np.bool_)
    repeated[order[1:][equal]] = True
    repeated[order[:-1][equal]] = True
    counted: dict[tuple[int, int], tuple[int, int]] = {}
    for i in np.flatnonzero(repeated).tolist():
        if verdicts[i] in (Verdict.DUPLICATE, Verdict.CONFLICT):
            continue
        key = (int(hi[i]), int(lo[i]))
        before = counted.get(key)
        if before is not None and clocks_us[i] < before[1]:
            same = before[0] == content[i]
            verdicts[i] = Verdict.DUPLICATE if same else Verdict.CONFLICT
        elif verdicts[i] == Verdict.COUNTED:
            counted[key] = (int(content[i]), expiry_us(int(hours[i]), horizon_us))
