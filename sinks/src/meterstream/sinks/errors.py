"""What may go wrong in a sink, and what a caller catches.

SinkError
├── ClickHouseTooOld      the server lacks what the tables and views need
├── MigrationError        the schema cannot be brought up to date
│   ├── MigrationChanged  an applied migration is not what it was
│   ├── MigrationLocked   somebody else is migrating
│   └── SchemaOutdated    migrations are missing: run them first
├── JournalBroken         the chain cannot be followed from where this sink stands
└── RowsRefused           ClickHouse refuses more rows than single bad ones
"""


class SinkError(Exception):
    """A sink cannot go on. The message says what happened, to what, and what to do next."""


class ClickHouseTooOld(SinkError):
    """The server is older than the oldest release that the tables and views are tested on."""


class MigrationError(SinkError):
    """The schema of a database cannot be brought up to date."""


class MigrationChanged(MigrationError):
    """A migration that was applied has been edited since."""


class MigrationLocked(MigrationError):
    """Another process holds the lock of the migrations."""


class SchemaOutdated(MigrationError):
    """The database lacks migrations that this code needs."""


class JournalBroken(SinkError):
    """The journal cannot be followed from where this sink stands."""


class RowsRefused(SinkError):
    """ClickHouse refuses so many rows of one insert that the rows cannot be at fault."""
