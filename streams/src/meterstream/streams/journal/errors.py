"""What can go wrong with a journal, and who does what about it.

JournalError
├── OutcomeUnknown     a record may or may not have been written: restore, then go on
├── RecordTooLarge     it was not written: make it smaller
├── NotJoined          state and log do not fit together: that partition stops, a person decides
├── LedgerUnavailable  ClickHouse cannot tell what it has counted: a person decides
└── JournalMisset      the topic's settings make its records useless: the meter stops
"""


class JournalError(Exception):
    """Base of everything that can go wrong with a journal."""


class OutcomeUnknown(JournalError):
    """No acknowledgement came for a record. It may stand in the journal, now or later."""


class RecordTooLarge(JournalError):
    """The broker refuses a record of this size. Nothing was written."""


class NotJoined(JournalError):
    """The state does not join the logs. The message says why, and what can be done."""


class JournalMisset(JournalError):
    """The journal's topic is not set up as it must be."""


class LedgerUnavailable(JournalError):
    """ClickHouse cannot tell what it has counted. The message says why, and what can be done."""
