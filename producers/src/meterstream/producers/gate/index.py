"""The limits that apply to a check, found without a lock: by team, then by subject."""

from collections.abc import Callable
from typing import Final, Protocol

from .share import Recent
from .states import State

Seen = tuple[State, int, bool]
"""A limit as a check sees it: its state, what this process holds against it, whether it refuses."""


class Teller(Protocol):
    """A partition of `limit-states` as a limit sees it: what tells where it stands."""

    @property
    def clock_us(self) -> int | None:
        """Up to when usage was counted, by the broker's time; None before that is known."""

    @property
    def loaded(self) -> bool:
        """Whether the log was read to its end at least once."""

    def counted_upto(self, partition: int) -> int:
        """Return the first event of a partition of events that is not part of what is told."""

    def decided_upto(self, partition: int) -> int:
        """Return the first event of a partition that the meter of teams has not counted."""


class Cell:
    """One limit. It is changed with the lock of the book of reservations, and read without.

    A check reads `seen` and nothing behind it: with 100,000 limits most of what it touches is in no
    cache.
    """

    __slots__ = ("held", "pending", "recent", "seen", "state", "teller")

    def __init__(self, state: State, teller: Teller) -> None:
        self.state = state
        self.teller: Final = teller
        self.held = 0
        """What this process reserved, or used and cannot see counted yet."""
        self.seen: Seen = (state, 0, state.room <= 0)
        self.pending: Final[dict[int, list[tuple[int, int]]]] = {}
        """What was used, by partition of events: offset of the event, amount. Heaps."""
        self.recent: Recent | None = None
        """What was known of late; kept where several processes share the limit."""

    def stands(self, state: State) -> None:
        """Take a newer state."""
        self.state = state
        self.seen = (state, self.held, self.held >= state.room)

    def hold(self, amount: int) -> None:
        """Hold more against it, or less if the amount is below 0."""
        self.held += amount
        self.seen = (self.state, self.held, self.held >= self.state.room)

    def counted_upto(self, partition: int) -> int:
        """Return the first event of a partition of events that is not part of what is known."""
        return max(self.teller.counted_upto(partition), self.state.events_position)


Cells = tuple[Cell, ...]

SUBJECTS: Final = ("own", "user", "agent", "project", "feature")
"""In the order in which limits are told."""
_OWN: Final = ("team", "organisation")


class Owner:
    """The limits of one team and of those within it, or of one organisation.

    Tuples are replaced, never changed.
    """

    __slots__ = ("agent", "feature", "own", "project", "user")

    def __init__(self) -> None:
        self.own: Cells = ()
        self.user: dict[str | None, Cells] = {}
        self.agent: dict[str | None, Cells] = {}
        self.project: dict[str | None, Cells] = {}
        self.feature: dict[str | None, Cells] = {}

    def put(self, cell: Cell) -> None:
        """Add a limit, in the order of their ids."""
        self._change(cell, lambda cells: [*cells, cell])

    def remove(self, cell: Cell) -> None:
        """Take a limit out."""
        self._change(cell, lambda cells: [one for one in cells if one is not cell])

    def _change(self, cell: Cell, change: Callable[[Cells], list[Cell]]) -> None:
        kind, subject_id = cell.state.subject, cell.state.subject_id
        among: dict[str | None, Cells] = {} if kind in _OWN else getattr(self, kind)
        before = self.own if kind in _OWN else among.get(subject_id, ())
        cells = tuple(sorted(change(before), key=lambda one: one.state.limit_id))
        if kind in _OWN:
            self.own = cells
        elif cells:
            among[subject_id] = cells
        else:
            among.pop(subject_id, None)

    def applicable(
        self, user: str | None, agent: str | None, project: str | None, feature: str | None
    ) -> Cells:
        """Return the limits of a team and of whoever acts within it."""
        # The dictionaries have no limit under None.
        return (
            self.own
            + self.user.get(user, ())
            + self.agent.get(agent, ())
            + self.project.get(project, ())
            + self.feature.get(feature, ())
        )

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in SUBJECTS)


class Index:
    """All limits of teams, or of organisations. One thread changes it, any number read it."""

    def __init__(self) -> None:
        self.owners: Final[dict[str, Owner]] = {}
        self.cells: Final[dict[bytes, Cell]] = {}

    def put(self, key: bytes, state: State, teller: Teller) -> Cell:
        """Have a limit stand as `state` says from now on; return its cell.

        A limit of another subject or measure than before is a new one: what was held for the old
        one does not count for it.
        """
        before = self.cells.get(key)
        if before is not None:
            known = before.state
            if (
                state.subject_id == known.subject_id
                and state.subject == known.subject
                and state.measure == known.measure
                and state.owner_id == known.owner_id
            ):
                before.stands(state)
                return before
        cell = self.cells[key] = Cell(state, teller)
        owner = self.owners.get(state.owner_id)
        if owner is None:
            owner = self.owners[state.owner_id] = Owner()
        owner.put(cell)
        if before is not None:
            self._take_out(before)  # last, so that no check finds neither
        return cell

    def remove(self, key: bytes) -> None:
        """Forget a limit."""
        cell = self.cells.pop(key, None)
        if cell is not None:
            self._take_out(cell)

    def _take_out(self, cell: Cell) -> None:
        owner = self.owners.get(cell.state.owner_id)
        if owner is not None:
            owner.remove(cell)
            if not owner:
                del self.owners[cell.state.owner_id]
