"""Running totals: what each subject has used by day and by month, whether a limit asks or not.

So a limit that is set in the middle of a month knows what was used. A team, and each user, agent,
project and feature within it, is a subject; totals follow event time in the team's zone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import Measure

from .cells import CellKey
from .windows import Window, windows_at

_I64 = NDArray[np.int64]

Subject = tuple[str, str, str]
"""(kind, team_id, subject_id); the id is empty for the team itself. Of an organisation the kind,
and its id in the place of the team's."""
OwnerKind = Literal["team", "organisation"]

MEASURES: Final[tuple[Measure, ...]] = ("credits", "tokens", "runs", "api_calls", "sessions")
"""What totals count, in the order of their columns; credits in millionths."""

MAX_REMEMBERED: Final = 1_000_000

ZoneOf = Callable[[str], str]
"""Returns the zone of a team, by its IANA name."""


class Subjects:
    """Numbers for subjects, so that arrays can speak of them. Numbers mean nothing elsewhere."""

    def __init__(self, owner_kind: OwnerKind = "team") -> None:
        self.names: list[Subject] = []
        self._owner_kind: OwnerKind = owner_kind
        self._numbers: dict[Subject, int] = {}
        self._of_cells: dict[tuple[str, ...], tuple[int, ...]] = {}

    def number(self, subject: Subject) -> int:
        """Return the number of a subject; a new one gets the next."""
        number = self._numbers.get(subject)
        if number is None:
            number = self._numbers[subject] = len(self.names)
            self.names.append(subject)
        return number

    def of(self, key: CellKey) -> tuple[int, ...]:
        """Return the numbers of the subjects whose usage a cell is part of."""
        _, team_id, user_id, project_id, agent_id, _, _, feature_id, _, _ = key
        named = (team_id, user_id, project_id, agent_id, feature_id)
        found = self._of_cells.get(named)
        if found is None:
            if len(self._of_cells) >= MAX_REMEMBERED:
                self._of_cells.clear()
            kinds = zip(("user", "project", "agent", "feature"), named[1:], strict=True)
            subjects = [(kind, team_id, name) for kind, name in kinds if name]
            found = tuple(map(self.number, [(self._owner_kind, team_id, ""), *subjects]))
            self._of_cells[named] = found
        return found


@dataclass(frozen=True, slots=True)
class Used:
    """What was used in one window, by subject."""

    subjects: _I64
    """Their numbers, ascending."""
    amounts: _I64
    """Shape (subjects, MEASURES)."""

    def of(self, subjects: _I64) -> _I64:
        """Return what these subjects used, shape (subjects, MEASURES); 0 where it is not known."""
        found = np.zeros((len(subjects), len(MEASURES)), np.int64)
        if len(self.subjects):
            at = np.minimum(np.searchsorted(self.subjects, subjects), len(self.subjects) - 1)
            known = self.subjects[at] == subjects
            found[known] = self.amounts[at[known]]
        return found


class Totals:
    """What was used in the windows that may still take events, of one partition."""

    def __init__(self, owner_kind: OwnerKind = "team") -> None:
        """`owner_kind` is the subject that every cell belongs to, by the team of its key."""
        self._owner_kind: OwnerKind = owner_kind
        self.subjects = Subjects(owner_kind)
        self._tables: dict[Window, _I64] = {}
        """Shape (subjects, MEASURES), by the numbers of the subjects; some may lie beyond it."""

    def __len__(self) -> int:
        return len(self.subjects.names)

    def by_window(
        self, keys: Sequence[CellKey], amounts: _I64, zone_of: ZoneOf
    ) -> dict[Window, Used]:
        """Add up what cells used by window and subject; `amounts` has shape (cells, MEASURES)."""
        of = self.subjects.of
        numbers = [of(key) for key in keys]
        groups: dict[tuple[Window, Window], list[int]] = {}
        zones: dict[str, str] = {}
        known: dict[tuple[str, int], list[int]] = {}
        for i, key in enumerate(keys):
            zone = zones.get(key[1]) or zones.setdefault(key[1], zone_of(key[1]))
            members = known.get((zone, key[0]))
            if members is None:
                windows = windows_at(zone, key[0] * 1_000_000)
                members = known[zone, key[0]] = groups.setdefault(windows, [])
            members.append(i)
        parts: dict[Window, list[int]] = {}
        for windows, members in groups.items():
            for window in windows:
                parts.setdefault(window, []).extend(members)
        folded: dict[int, Used] = {}
        found: dict[Window, Used] = {}
        for window, members in parts.items():
            if len(members) == len(keys):  # all of them, in whatever order: once is enough
                found[window] = folded.get(0) or folded.setdefault(0, _fold(numbers, amounts))
            else:
                found[window] = _fold([numbers[i] for i in members], amounts[members])
        return found

    def used(self, window: Window, subjects: _I64) -> _I64:
        """Return what subjects used in a window, shape (subjects, MEASURES)."""
        table = self._tables.get(window)
        found = np.zeros((len(subjects), len(MEASURES)), np.int64)
        if table is not None:
            here = subjects < len(table)
            found[here] = table[subjects[here]]
        return found

    def add(self, used: Mapping[Window, Used]) -> None:
        """Take in what was used."""
        for window, one in used.items():
            table = self._tables.get(window)
            if table is None or len(table) < len(self.subjects.names):
                grown = np.zeros((2 * len(self.subjects.names), len(MEASURES)), np.int64)
                if table is not None:
                    grown[: len(table)] = table
                table = self._tables[window] = grown
            table[one.subjects] += one.amounts

    def forget(self, before_us: int) -> bool:
        """Drop windows that ended at this time or before: no event of theirs is taken any more.

        Returns whether there were any. Subjects that no window names any more go with them.
        """
        over = [window for window in self._tables if window.end_us <= before_us]
        if not over:
            return False
        for window in over:
            del self._tables[window]
        kept = [
            (window, [self.subjects.names[i] for i in used.subjects.tolist()], used.amounts)
            for window, used in self.items()
        ]
        self.subjects = Subjects(self._owner_kind)
        self._tables.clear()
        for window, names, amounts in kept:
            self.load(window, names, amounts)
        return True

    def load(self, window: Window, subjects: Sequence[Subject], amounts: _I64) -> None:
        """Add what named subjects used in a window."""
        numbers = np.array([self.subjects.number(one) for one in subjects], np.int64)
        self.add({window: Used(numbers, amounts)})

    def items(self) -> Iterator[tuple[Window, Used]]:
        """Yield all windows with those who used something in them, in order."""
        for window in sorted(self._tables):
            table = self._tables[window]
            subjects = np.flatnonzero(table.any(axis=1))
            yield window, Used(subjects, table[subjects])


def _fold(numbers: Sequence[tuple[int, ...]], amounts: _I64) -> Used:
    """Add up the amounts of cells by the subjects of each."""
    sizes = np.fromiter(map(len, numbers), np.int64, len(numbers))
    subject = np.fromiter(chain.from_iterable(numbers), np.int64, int(sizes.sum()))
    cell = np.repeat(np.arange(len(numbers)), sizes)
    order = np.argsort(subject, kind="stable")
    by_subject = subject[order]
    starts = np.concatenate(([0], np.flatnonzero(by_subject[1:] != by_subject[:-1]) + 1))
    return Used(by_subject[starts], np.add.reduceat(amounts[cell[order]], starts, axis=0))
