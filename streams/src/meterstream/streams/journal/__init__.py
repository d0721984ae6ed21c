"""The journal on Kafka: writing it, reading it, restoring from it, and keeping snapshots of it."""

from .errors import (
    JournalError,
    JournalMisset,
    LedgerUnavailable,
    NotJoined,
    OutcomeUnknown,
    RecordTooLarge,
)
from .ledger import Counted, Ledger
from .writer import Appended, JournalWriter, RecordWriter

__all__ = [
    "Appended",
    "Counted",
    "JournalError",
    "JournalMisset",
    "JournalWriter",
    "Ledger",
    "LedgerUnavailable",
    "NotJoined",
    "OutcomeUnknown",
    "RecordTooLarge",
    "RecordWriter",
]
