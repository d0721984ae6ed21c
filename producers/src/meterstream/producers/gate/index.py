"""The limits that apply to a check, found without a lock: by team, then by subject."""

from collections.abc import Callable
from typing import Final

from .share import Recent
from .states import State

Seen = tuple[State, int, bool]
"""A limit as a check sees it: its state, what this process holds against it, whether it refuses."""


class Cell:
    """One limit. It is changed with the lock of the book of reservations, and read without.

    A check reads `seen` and nothing behind it: with 100,000 limits most of what it touches is in no
    cache.
    """

    __slots__ = ("held", "pending", "recent", "seen", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.held = 0
        """What this process reserved, or used and cannot see counted yet."""
        self.seen: Seen = (state, 0, state.room <= 0)
        self.pending: list[tuple[int, int]] = []
        """What was used: offset of the event, amount. A heap."""
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


Cells = tuple[Cell, ...]

SUBJECTS: Final = ("team", "user", "agent", "project", "feature")
"""In the order in which limits are told."""


class Team:
    """The limits of one team and of those within it. Tuples are replaced, never changed."""

    __slots__ = ("agent", "feature", "partition", "project", "team", "user")

    def __init__(self, partition: int) -> None:
        self.partition: Final = partition
        self.team: Cells = ()
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
        among: dict[str | None, Cells] = {} if kind == "team" else getattr(self, kind)
        before = self.team if kind == "team" else among.get(subject_id, ())
        cells = tuple(sorted(change(before), key=lambda one: one.state.limit_id))
        if kind == "team":
            self.team = cells
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
            self.team
            + self.user.get(user, ())
            + self.agent.get(agent, ())
            + self.project.get(project, ())
            + self.feature.get(feature, ())
        )

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in SUBJECTS)


class Index:
    """All limits. One thread changes it, and any number read it meanwhile."""

    def __init__(self) -> None:
        self.teams: Final[dict[str, Team]] = {}
        self.cells: Final[dict[bytes, Cell]] = {}

    def put(self, key: bytes, state: State, partition: int) -> Cell:
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
                and state.team_id == known.team_id
            ):
                before.stands(state)
                return before
        cell = self.cells[key] = Cell(state)
        team = self.teams.get(state.team_id)
        if team is None:
            team = self.teams[state.team_id] = Team(partition)
        team.put(cell)
        if before is not None:
            self._take_out(before)  # last, so that no check finds neither
        return cell

    def remove(self, key: bytes) -> None:
        """Forget a limit."""
        cell = self.cells.pop(key, None)
        if cell is not None:
            self._take_out(cell)

    def _take_out(self, cell: Cell) -> None:
        team = self.teams.get(cell.state.team_id)
        if team is not None:
            team.remove(cell)
            if not team:
                del self.teams[cell.state.team_id]
