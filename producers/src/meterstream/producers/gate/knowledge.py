"""What records of `limit-states` and `catalog` say, brought into the index and the book."""

import time
from functools import lru_cache
from typing import Final

from meterstream.producers.exceptions import UnreadableState
from meterstream.schemas.partitions import partition_of

from .book import Book
from .index import Cell, Cells, Index
from .metrics import GateMetrics
from .organisations import Organisations
from .partition import OfOrganisations, Partition
from .settings import GateSettings
from .share import Recent, sharing
from .states import (
    HEARTBEAT_KEY,
    ORGANISATION_KEY,
    TEAM_KEY,
    State,
    read_heartbeat,
    read_state,
)

_TEAMS_REMEMBERED: Final = 65_536
"""Of how many teams the partition is remembered."""

_partition_of: Final = lru_cache(_TEAMS_REMEMBERED)(partition_of)


class Knowledge:
    """Everything a gate knows. One thread brings records in, any number read."""

    def __init__(self, settings: GateSettings, book: Book, metrics: GateMetrics) -> None:
        self.index: Final = Index()
        """The limits of teams."""
        self.organisations: Final = Organisations()
        self.partitions: tuple[Partition, ...] = ()
        """By number, as the limits of teams are told in them."""
        self.of_organisations: tuple[OfOrganisations, ...] = ()
        """The same, as those of organisations are."""
        self.catalog_unreadable = False
        """Whether nobody can tell which organisation a team is part of."""
        self._count = 0
        self._book: Final = book
        self._metrics: Final = metrics
        self._sharing: Final = sharing(settings)

    def limits(self) -> int:
        """Return how many limits are known."""
        return len(self.index.cells) + len(self.organisations)

    def set_partitions(self, count: int) -> None:
        """Note how many partitions there are. Those that were there before stay known."""
        new = range(len(self.partitions), count)
        self.partitions = (*self.partitions, *(Partition(n, self.index) for n in new))
        self.of_organisations = (
            *self.of_organisations,
            *(OfOrganisations(n, self.organisations, self._position) for n in new),
        )
        self._count = count

    def partition_of(self, team: str) -> Partition | None:
        """Return the partition of a team; None before the partitions are known."""
        count = self._count
        return self.partitions[_partition_of(team, count)] if count else None

    def applicable(
        self,
        team: str,
        user: str | None,
        agent: str | None,
        project: str | None,
        feature: str | None,
    ) -> Cells:
        """Return all limits of a run, in the order in which they are told."""
        found = self.index.owners.get(team)
        cells: Cells = () if found is None else found.applicable(user, agent, project, feature)
        above = self.organisations.above(team) if self.organisations.in_use else None
        return cells if above is None else cells + above.cells

    def begins_anew(self, number: int) -> None:
        """Note that a partition is read from its beginning (once more)."""
        self.partitions[number].begins_anew()
        self.of_organisations[number].begins_anew()

    def reached_end(self, number: int) -> None:
        """Note that a partition was read to its end."""
        with self._book.lock:
            self.partitions[number].reached_end()
            self.of_organisations[number].reached_end()
            if self._states_loaded:
                self.organisations.states_known()

    @property
    def loaded(self) -> bool:
        """Whether all partitions were read to their ends, and the catalog if that may be read."""
        catalog = self.organisations.catalog.known or self.catalog_unreadable
        return self._states_loaded and catalog

    @property
    def _states_loaded(self) -> bool:
        return self._count > 0 and all(one.loaded for one in self.partitions[: self._count])

    @property
    def clock_us(self) -> int | None:
        """Up to when usage was counted, in the partition that is most behind; None if unknown.

        Of those that tell limits of organisations only those count in which one may refuse.
        """
        hard = self.organisations.tellers()
        if hard and not self.organisations.catalog.known:
            return None
        tellers = [*self.partitions[: self._count], *hard]
        known = [one.clock_us for one in tellers if one.loaded and one.clock_us is not None]
        return min(known) if self._count and len(known) == len(tellers) else None

    def take(self, number: int, key: bytes | None, value: bytes | None) -> None:
        """Take one record of a partition; UnreadableState if it breaks the contract."""
        if key is None:
            raise UnreadableState(
                f"a record in partition {number} of the limit states has no key; it is passed over"
            )
        if key.startswith(TEAM_KEY):
            partition = self.partitions[number]
        elif key.startswith(ORGANISATION_KEY):
            partition = self.of_organisations[number]
        elif key.startswith(HEARTBEAT_KEY):
            self._beat(number, value)
            return
        else:
            self._metrics.ignored("other_owner")
            return
        if value is None:
            with self._book.lock:
                partition.remove(key)
        else:
            self._state(partition, key, read_state(value, number))

    def _state(self, partition: Partition, key: bytes, state: State) -> None:
        number = partition.number
        of_organisation = partition is self.of_organisations[number]
        if (state.subject == "organisation") != of_organisation:
            raise UnreadableState(
                f"a state in partition {number} of the limit states stands under the key of another"
                " owner; it is passed over"
            )
        if _partition_of(state.owner_id, self._count) != number:
            raise UnreadableState(
                f"a state in partition {number} of the limit states is of a team or an organisation"
                " whose place is another one; it is passed over"
            )
        with self._book.lock:
            before = self._cell(key, of_organisation)
            known = None if before is None else before.state
            fate = partition.take(key, state)
            cell = self._cell(key, of_organisation)
            if fate == "taken" and cell is not None:
                self._book.told(cell)
                self._recent(cell, known, state)
        if fate in ("repeated", "old"):
            self._metrics.ignored(fate)

    def _cell(self, key: bytes, of_organisation: bool) -> Cell | None:
        return self.organisations.get(key) if of_organisation else self.index.cells.get(key)

    def _recent(self, cell: Cell, known: State | None, state: State) -> None:
        sharing = self._sharing[state.subject == "organisation"]
        if sharing.processes == 1:
            return
        recent = cell.recent
        if recent is None and known is not None:
            recent = Recent(known, 0.0)  # all that is known of it: it was so until now
        now_s = time.monotonic()
        cell.recent = (
            Recent(state, now_s)
            if recent is None
            else recent.then(state, now_s, sharing.settling_s)
        )

    def _beat(self, number: int, value: bytes | None) -> None:
        if value is None:
            return
        heartbeat = read_heartbeat(value, number)
        if heartbeat.owners == "teams":
            partition = self.partitions[number]
        elif heartbeat.owners == "organisations":
            partition = self.of_organisations[number]
        else:
            self._metrics.ignored("other_owner")
            return
        with self._book.lock:
            known = partition.topic_id
            news = partition.beat(heartbeat)
            if heartbeat.owners == "teams" and known not in (None, partition.topic_id):
                self._book.lost_track(number)
            if news:
                self._book.counted(partition)
        if not news:
            self._metrics.ignored("old")

    def _position(self, number: int) -> tuple[str | None, int]:
        """Return the events topic of a partition, and its first event that is not counted."""
        if number >= len(self.partitions):
            return None, -1
        partition = self.partitions[number]
        return partition.topic_id, partition.events_position
