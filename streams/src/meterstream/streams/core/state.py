"""The state of one partition: what the chain of its journal has decided so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from meterstream.schemas.journal import Chain, Link
from meterstream.schemas.journal.header import NONE, Header, Kind

from .accounts import Account
from .cells import NO_CELLS, CellValues, OpenCells
from .control import Control
from .corrections import Corrected
from .dedup import Dedup, Ids
from .entries import Entries, KeptEntry
from .ledger import Ledger
from .ledger_rows import WrittenAccounts, read_accounts
from .limits import LimitKey, Stand, add_stands, with_stands
from .organisation_rows import OrganisationUsage, UpTo
from .policy import MINUTE_US, SECOND_US, Policy
from .read import PartitionOf
from .sessions import Session, SessionKey, is_forgotten
from .telling import Side, Telling, begun
from .total_rows import KnownTotals
from .totals import Totals, Used, ZoneOf
from .using import Recorded, used_by
from .windows import Window


class NotNext(RuntimeError):
    """A record was to be applied that does not continue the state: the state must be dropped."""


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The last event that was read: a log that still holds it was not rewritten."""

    offset: int = NONE
    time_us: int = 0
    """Its log-append time."""
    hash: int = 0
    epoch: int = NONE


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a genesis says of its generation beside what its header and sections say."""

    control_topic_id: UUID
    catalog_topic_id: UUID
    ids_since_us: int | None = None
    """Since when its ids are complete; None: as far as the horizon reaches."""
    needs_snapshot: bool = False
    """Whether its ids, sessions and entries did not fit the record and stand in its snapshot."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one valid record changes, whether it was just written or read back."""

    cells: CellValues = NO_CELLS
    ids: Ids | None = None
    sessions: tuple[Session, ...] = ()
    catalog: tuple[KeptEntry, ...] = ()
    control: tuple[KeptEntry, ...] = ()
    late: CellValues = NO_CELLS
    """What was used in minutes that had closed, by minute."""
    stands: tuple[Stand, ...] = ()
    """Where limits stand that changed."""
    beginning: Beginning | None = None
    """Only in a genesis, and in each."""
    totals: Sequence[KnownTotals] = ()
    """What a genesis carries over."""
    corrected: Corrected | None = None
    """The corrections that a genesis knows."""
    accounts: Sequence[Account] = ()
    """Those that changed, where they are known: of the state that computed them."""
    written: WrittenAccounts | None = None
    """What the record says of them, where they are read back."""
    ahead: Mapping[str, int] = field(default_factory=dict)
    """By team without an account, the latest event time that the clock has not passed."""
    governed: Control | None = None
    """What the control topic has said with `control`, where it is known."""
    telling: Telling | None = None
    """Which limits are told after a step, if some are left; `also` has those of the record."""
    used: Mapping[Window, Used] | None = None
    """What was used by window and subject, where it is known: of the state that computed it."""
    organisation_usage: OrganisationUsage | None = None
    """What organisations used: of teams it follows from the rest."""
    counted: tuple[UpTo, ...] = ()
    """Up to where the usage of teams is part of it, of their partitions that changed."""


def header_closed_us(header: Header, clock_us: int) -> int:
    """Return up to which time minutes are closed by a record, `clock_us` being the clock after it.

    Records before it may have closed more.
    """
    return clock_us - header.grace_seconds * SECOND_US


@dataclass
class PartitionState:
    """All that the core knows of one partition. Only `apply` changes it."""

    policy: Policy
    partition: int
    generation: int
    events_topic_id: UUID
    journal_topic_id: UUID
    control_topic_id: UUID
    catalog_topic_id: UUID
    link: Link
    control_position: int = 0
    catalog_position: int = 0
    last_event: LastEvent = LastEvent()
    cells: OpenCells = field(default_factory=OpenCells)
    dedup: Dedup = field(init=False)
    partition_of_team: PartitionOf = field(init=False)
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    entries: Entries = field(default_factory=Entries)
    control: Control = field(default_factory=Control)
    totals: Totals = field(init=False)
    ledger: Ledger = field(default_factory=Ledger)
    counted: dict[int, UpTo] = field(default_factory=dict)
    """Of organisations: up to where the usage of teams is part of theirs, by its partition."""
    reached: dict[Window, dict[LimitKey, int]] = field(default_factory=dict)
    """By window, the highest level that the version in force of a limit has reached."""
    closed_us: int = field(init=False)
    """Cells of minutes that ended here or before have left memory. Never goes back, so that a
    meter that is started with a longer grace opens none of them again. Set by who makes a state:
    by the grace of its genesis, or as its snapshot has it."""
    told_us: int = field(init=False)
    """The clock after the last step: limits were told where they stand in the windows that held
    it."""
    telling: Telling | None = None
    """Which limits were not told for that clock yet; None if all were."""
    is_untold: bool = True
    """Whether this generation has told nothing of limits yet: it tells all."""
    ids_since_us: int = field(init=False)
    """Identities of events from here on are all kept. Never goes back, so that a meter that is
    started with a longer horizon takes no event whose identity is forgotten."""

    def __post_init__(self) -> None:
        """Begin without cells and identities."""
        self.dedup = Dedup(self.policy.horizon_us)
        self.totals = Totals("team" if self.policy.owners == "teams" else "organisation")
        self.partition_of_team = PartitionOf(self.policy.partitions)
        self.ids_since_us = self.clock_us - self.policy.horizon_us
        self.told_us = self.clock_us

    @property
    def events_position(self) -> int:
        """The next offset of the events topic to read."""
        return self.link.events_position

    @property
    def clock_us(self) -> int:
        """The partition's clock, microseconds since 1970; 0 before the first record."""
        return self.link.clock_us

    @property
    def zone_of(self) -> ZoneOf:
        """Return what tells in whose zone the windows of a limit's owner begin."""
        return self._zone_of(self.entries)

    def _zone_of(self, entries: Entries) -> ZoneOf:
        of_teams = self.policy.owners == "teams"
        return entries.zone_of if of_teams else entries.zone_of_organisation

    @property
    def live_cells(self) -> int:
        """Cells whose minutes still take events."""
        return len(self.cells)

    @property
    def dedup_ids(self) -> int:
        """Identities that are kept."""
        return self.dedup.count

    @property
    def dedup_bytes(self) -> int:
        """Memory that they take."""
        return self.dedup.nbytes

    @property
    def is_due(self) -> bool:
        """Whether a step without events has something to tell, since the clock went on."""
        if self.ledger.due_us <= self.clock_us or self.telling is not None:
            return True
        if self.is_untold:
            return len(self.control.limits) > 0 or len(self.ledger) > 0
        return self.begins_window(self.clock_us)

    def begins_window(self, until_us: int) -> bool:
        """Tell whether a window of limits begins, since they were told, until the clock is there.

        A time that the clock has passed is as good as the clock's.
        """
        limits, zone_of = self.control.limits, self.zone_of
        until_us = max(until_us, self.clock_us)
        return begun(Side(limits, zone_of, self.told_us), Side(limits, zone_of, until_us))

    def apply_changes(
        self, header: Header, changes: Changes, journal_offset: int, timestamp_us: int
    ) -> None:
        """Take in a valid record. Raises NotNext if it does not continue the chain."""
        if header.kind is Kind.GENESIS:
            raise NotNext("a genesis record begins a state and changes none")
        chain = Chain(self.link)
        if not chain.take(journal_offset, timestamp_us, header) or chain.link is None:
            raise NotNext(
                f"journal offset {journal_offset} does not continue {self.link.prev}"
                f" of partition {self.partition}"
            )
        # What may fail comes first, so that a state is never half changed.
        control = changes.governed or self.control.with_taken(changes.control)
        entries = self.entries.with_taken(changes.catalog)
        used = changes.used
        if changes.organisation_usage is not None:
            told = changes.organisation_usage
            used = self.totals.by_window(told.keys, told.amounts, self._zone_of(entries))
        if used is None:
            recorded = Recorded(changes.cells, changes.late, changes.sessions)
            used = used_by(recorded, self.cells, self.totals, self.sessions.get, entries.zone_of)
        accounts = changes.accounts
        if changes.written is not None:
            accounts = read_accounts(self.ledger, changes.written)
        self.entries, self.control = entries, control
        self.ledger.apply(accounts)
        self.counted |= {one.partition: one for one in changes.counted}
        self.totals.add(used)
        if header.kind is Kind.STEP:
            telling = changes.telling
            self.telling = None if telling is None else telling.following(self.telling)
        self._take_stands(changes)
        self.link = chain.link
        self.ledger.look_ahead(changes.ahead, self.clock_us)
        if header.kind is Kind.STEP:
            self.told_us, self.is_untold = self.clock_us, False
        self.control_position = header.control_to
        self.catalog_position = header.catalog_to
        self.last_event = LastEvent(
            header.last_event_offset,
            header.last_event_time_us,
            header.last_event_hash,
            header.last_event_epoch,
        )
        # With the grace of its writer: so all readers of a record close the same minutes.
        self.closed_us = max(self.closed_us, header_closed_us(header, self.clock_us))
        self.ids_since_us = max(self.ids_since_us, self.clock_us - self.policy.horizon_us)
        self.cells.apply(changes.cells)
        self.cells.close(self.closed_us)
        if changes.ids is not None:
            self.dedup.add(changes.ids)
        self.dedup.forget(self.clock_us)
        for session in changes.sessions:
            self.sessions[session.key] = session
        self._forget_sessions()

    def _take_stands(self, changes: Changes) -> None:
        """Take in where limits stand; a limit that was set anew begins without a level."""
        anew = self.control.limits_named_by(changes.control)
        if anew:
            self.reached = with_stands(self.reached, (), anew)
        add_stands(self.reached, changes.stands)
        over_us = self.clock_us - self.policy.horizon_us
        if self.telling is not None:  # limits still stand in the windows of that clock
            over_us = min(over_us, self.telling.behind_us)
        if self.totals.forget(over_us):
            self.reached = {w: levels for w, levels in self.reached.items() if w.end_us > over_us}

    def _forget_sessions(self) -> None:
        """Drop old sessions, looking through them when a minute of the clock has passed.

        This only frees memory: one that is still here and forgotten is not followed either.
        """
        if not self.sessions or self.clock_us < self._sessions_looked_at_us + MINUTE_US:
            return
        self._sessions_looked_at_us = self.clock_us
        self.sessions = {
            key: session
            for key, session in self.sessions.items()
            if not is_forgotten(session, self.clock_us, self.policy.horizon_us)
        }

    _sessions_looked_at_us: int = 0
