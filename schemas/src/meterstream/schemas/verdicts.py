"""What becomes of each offset of the events topic: one byte an offset, and no offset without one.

A verdict below REJECTED counts an event or says why there is nothing to count; from REJECTED on
it names the one reason for which the event went to the dead-letter queue.
"""

from enum import IntEnum
from typing import Final


class Verdict(IntEnum):
    """The verdict on one offset. Values are stored in the journal and never change meaning."""

    COUNTED = 1
    DUPLICATE = 2
    """The same identity with the same content was counted before."""
    CONFLICT = 3
    """The same identity with other content was counted before; this one goes to the DLQ."""
    TOO_LATE = 4
    """Older than the deduplication horizon; goes to the DLQ."""
    GAP = 5
    """No record at this offset: a transaction's marker, or an aborted record."""
    UNREAD = 6
    """Retention removed the record before it was read: a loss, and an alarm."""

    # Rejected, with the reason. All of these go to the DLQ.
    NULL_VALUE = 32
    EMPTY = 33
    TOO_LARGE = 34
    NOT_UTF8 = 35
    NOT_JSON = 36
    NOT_AN_OBJECT = 37
    UNKNOWN_SPECVERSION = 38
    UNKNOWN_TYPE = 39
    MISSING_FIELD = 40
    UNKNOWN_FIELD = 41
    WRONG_TYPE = 42
    OUT_OF_RANGE = 43
    INVALID_TIME = 44
    INVALID_TEXT = 45
    INCONSISTENT = 46
    WRONG_PARTITION = 47
    TIME_AHEAD = 48
    AMOUNT_TOO_LARGE = 49
    NOT_ALLOWED = 50
    """The entry is well formed but may not be made: a card that takes effect too soon, say."""
    INTERNAL = 63
    """An unexpected exception of the meter itself: quarantined, reported, replayable."""


REJECTED: Final = 32
"""The first verdict that means rejected."""


def is_rejected(verdict: int) -> bool:
    """Tell whether `verdict` is one of the reasons for rejection."""
    return verdict >= REJECTED


def ledger_class(verdict: int) -> str:
    """Return the class the loss ledger counts `verdict` in: one of LEDGER_CLASSES."""
    return "rejected" if verdict >= REJECTED else Verdict(verdict).name.lower()


def reason_name(verdict: int) -> str:
    """Return the name of a verdict as it stands in DLQ headers: `wrong_partition`, `conflict`."""
    return Verdict(verdict).name.lower()


LEDGER_CLASSES: Final = (
    "counted",
    "duplicate",
    "conflict",
    "rejected",
    "too_late",
    "gap",
    "unread",
)

DEAD_LETTERED: Final = frozenset(
    {Verdict.CONFLICT, Verdict.TOO_LATE, *(v for v in Verdict if v >= REJECTED)}
)
"""The verdicts whose events go to the dead-letter queue."""
