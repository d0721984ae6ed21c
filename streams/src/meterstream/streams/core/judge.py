"""The verdict on each event of a batch: counted, seen before, or too early or late to count."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.verdicts import Verdict

from .dedup import Dedup, Ids, expiry_us
from .policy import HOUR_US

_I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict for each event, and the identities that are new."""

    verdicts: NDArray[np.uint8]
    ids: Ids


@dataclass(frozen=True, slots=True)
class Candidates:
    """Events in the order of their offsets, as far as they are judged. Arrays of one length."""

    hi: NDArray[np.uint64]
    lo: NDArray[np.uint64]
    """The two halves of the identity."""
    content: NDArray[np.uint32]
    times_us: _I64
    clocks_us: _I64
    """The partition's clock at the event."""
    unless: NDArray[np.uint8]
    """The verdict on the event if it is new: COUNTED, or why it cannot be counted."""


def judge_identities(dedup: Dedup, horizon_us: int, events: Candidates) -> Judged:
    """Judge the events of a batch.

    Only counted events enter the identities. An identity that is known at the clock of an event
    makes it a duplicate or a conflict, whatever else is wrong with it.
    """
    hi, lo, content = events.hi, events.lo, events.content
    hours = events.times_us // HOUR_US
    order = np.argsort(hi, kind="stable")
    known, known_content, expiry = dedup.find(hi[order], lo[order])
    known &= events.clocks_us[order] < expiry
    verdicts = events.unless.copy()
    where = order[known]
    same = known_content[known] == content[where]
    verdicts[where] = np.where(same, Verdict.DUPLICATE, Verdict.CONFLICT)
    _judge_repeated(order, events, hours, verdicts, horizon_us)
    new = order[verdicts[order] == Verdict.COUNTED]
    return Judged(verdicts, Ids(hi[new], lo[new], content[new], hours[new].astype(np.uint32)))


def judge_in_order(
    dedup: Dedup, horizon_us: int, events: Candidates, fits: Callable[[int], bool]
) -> Judged:
    """Judge as `judge_identities` does, but one event after the other.

    An event that would be counted is refused as AMOUNT_TOO_LARGE unless it `fits`, which is asked
    once for each such event, by its position, in order.
    """
    hi, lo, content, clocks_us = events.hi, events.lo, events.content, events.clocks_us
    hours = events.times_us // HOUR_US
    known, known_content, expiry = dedup.find(hi, lo)
    verdicts = events.unless.copy()
    counted: dict[tuple[int, int], tuple[int, int]] = {}
    for i, key in enumerate(zip(hi.tolist(), lo.tolist(), strict=True)):
        before = counted.get(key)
        if before is None and known[i]:
            before = int(known_content[i]), int(expiry[i])
        if before is not None and clocks_us[i] < before[1]:
            same = before[0] == content[i]
            verdicts[i] = Verdict.DUPLICATE if same else Verdict.CONFLICT
        elif verdicts[i] == Verdict.COUNTED:
            if fits(i):
                counted[key] = int(content[i]), expiry_us(int(hours[i]), horizon_us)
            else:
                verdicts[i] = Verdict.AMOUNT_TOO_LARGE
    new = np.flatnonzero(verdicts == Verdict.COUNTED)
    new_hours = hours[new].astype(np.uint32)
    return Judged(verdicts, Ids.of(hi[new], lo[new], content[new], new_hours))


def _judge_repeated(
    order: _I64,
    events: Candidates,
    hours: _I64,
    verdicts: NDArray[np.uint8],
    horizon_us: int,
) -> None:
    """Settle identities that occur more than once in the batch, in the order of their offsets."""
    hi, lo, content, clocks_us = events.hi, events.lo, events.content, events.clocks_us
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
