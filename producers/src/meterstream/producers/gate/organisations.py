"""The limits of organisations, and which of them lie above a team."""

from typing import Final

from .catalog import Catalog
from .index import Cell, Cells, Index, Teller
from .states import State


class Above:
    """The limits of a team's organisation and of those that it is part of. Never changed."""

    __slots__ = ("cells", "tellers")

    def __init__(self, cells: Cells, tellers: tuple[Teller, ...]) -> None:
        self.cells: Final = cells
        """Of the team's own organisation first, then upwards; by id within each."""
        self.tellers: Final = tellers
        """The partitions that tell those that may refuse."""

    def clock_us(self, of_team_us: int) -> int | None:
        """Return up to when usage of the team and of these was counted; None if unknown."""
        if self is UNKNOWN:
            return None
        oldest_us = of_team_us
        for teller in self.tellers:
            clock_us = teller.clock_us if teller.loaded else None
            if clock_us is None:
                return None
            oldest_us = min(oldest_us, clock_us)
        return oldest_us


UNKNOWN: Final = Above((), ())
"""Stands for limits of which nobody can tell whether they lie above a team."""


class Organisations:
    """All limits of organisations. One thread changes it, and any number read it meanwhile.

    What lies above an organisation is worked out when it is first asked for, and thrown away with
    each change of what it rests on.
    """

    def __init__(self) -> None:
        self.catalog: Final = Catalog()
        self.in_use = True
        """Whether `above` is to be asked: not, while it is certain that there are no limits."""
        self._states_known = False
        self._certain = False
        """Whether it is known which limits there are, and above whom those that may refuse."""
        self._organisation_of: Final = self.catalog.organisations
        self._index: Final = Index()
        self._hard: Final[set[bytes]] = set()
        self._above: dict[str, Above] = {}

    def __len__(self) -> int:
        return len(self._index.cells)

    def above(self, team: str) -> Above | None:
        """Return the limits above a team; None if there are none, UNKNOWN if nobody can tell."""
        above = self._above  # before all that it rests on: see _changed
        if not self._certain:
            return UNKNOWN
        organisation = self._organisation_of.get(team)
        if organisation is None:
            return None
        found = above.get(organisation)
        if found is None:
            found = above[organisation] = self._look_up(organisation)
        return found

    def get(self, key: bytes) -> Cell | None:
        """Return a limit."""
        return self._index.cells.get(key)

    def put(self, key: bytes, state: State, teller: Teller) -> Cell:
        """Have a limit stand as `state` says from now on; return its cell."""
        before = self._index.cells.get(key)
        cell = self._index.put(key, state, teller)
        if cell is not before or state.hard != (key in self._hard):
            (self._hard.add if state.hard else self._hard.discard)(key)
            self._changed()
        return cell

    def remove(self, key: bytes) -> None:
        """Forget a limit."""
        self._index.remove(key)
        self._hard.discard(key)
        self._changed()

    def states_known(self) -> None:
        """Note that all states were read once: which limits there are is known."""
        if not self._states_known:
            self._states_known = True
            self._changed()

    def take_entry(self, key: bytes | None, value: bytes | None) -> None:
        """Take an entry of the catalog; UnreadableState if it breaks the contract."""
        if self.catalog.take(key, value):
            self._changed()

    def catalog_reached_end(self) -> None:
        """Note that the catalog was read to its end."""
        if self.catalog.reached_end():
            self._changed()

    def tellers(self) -> set[Teller]:
        """Return the partitions that tell limits which may refuse."""
        cells = (self._index.cells.get(key) for key in list(self._hard))
        return {cell.teller for cell in cells if cell is not None}

    def _changed(self) -> None:
        """Throw away what was worked out: last, so that nobody keeps what rests on the past."""
        self._certain = self._states_known and (self.catalog.known or not self._hard)
        self.in_use = not self._states_known or bool(self._index.cells)
        self._above = {}

    def _look_up(self, organisation: str) -> Above:
        owners = self._index.owners
        found = [owners.get(one) for one in self.catalog.upwards(organisation)]
        cells = tuple(cell for one in found if one is not None for cell in one.own)
        return Above(cells, tuple({cell.teller: None for cell in cells if cell.state.hard}))
