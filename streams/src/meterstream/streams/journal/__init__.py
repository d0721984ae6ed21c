"""The journal on Kafka: writing it, reading it, restoring from it, and keeping snapshots of it."""

from .errors import JournalError, JournalMisset, NotJoined, OutcomeUnknown, RecordTooLarge
from .writer import Appended, JournalWriter, RecordWriter

__all__ = [
    "Appended",
    "JournalError",
    "JournalMisset",
    "JournalWriter",
    "NotJoined",
    "OutcomeUnknown",
    "RecordTooLarge",
    "RecordWriter",
]
