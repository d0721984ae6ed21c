"""Limits: which are in force, and where each stands."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meterstream.schemas.control import LimitSetData

from .totals import MEASURES, Subject
from .windows import Window, windows_at

_I64 = NDArray[np.int64]

LimitKey = tuple[str, str]
"""(team_id or organisation_id, limit_id): a partition decides limits of either or the other."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One version of a limit."""

    data: LimitSetData
    since_us: int
    """Log time of the entry that set it: it holds in windows that end later."""
    key: LimitKey = field(init=False)
    subject: Subject = field(init=False)
    measure: int = field(init=False)
    """Its column in totals."""

    def __post_init__(self) -> None:
        """Look up what follows from its data."""
        data, put = self.data, object.__setattr__
        owner_id = data.team_id or data.organisation_id or ""
        put(self, "key", (owner_id, data.limit_id))
        put(self, "subject", (data.subject, owner_id, data.subject_id or ""))
        put(self, "measure", MEASURES.index(data.measure))

    @property
    def levels(self) -> tuple[int, ...]:
        """Return at which thousandths of the amount somebody is told, ascending."""
        return self.data.alert_levels_permille

    @property
    def is_hard(self) -> bool:
        """Whether it blocks at its amount."""
        return self.data.enforcement == "hard"

    def amount_of(self, level_permille: int) -> int:
        """Return the least amount, in whole units of the measure, that reaches a level."""
        return -(-self.data.amount * level_permille // 1000)

    def window_at(self, zone: str, time_us: int) -> Window:
        """Return the window of its kind that holds a time, in a team's zone."""
        day, month = windows_at(zone, time_us)
        return day if self.data.window == "day" else month


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the version in force of a limit stands in a window, as a state keeps it."""

    key: LimitKey
    window: Window
    reached_permille: int


Reached = Mapping[Window, Mapping[LimitKey, int]]
"""The highest level that was reached, in a window, by the version in force; 0 is left out."""


def with_stands(
    reached: Reached, stands: Sequence[Stand], anew: Collection[LimitKey] = ()
) -> dict[Window, dict[LimitKey, int]]:
    """Return reached levels with those of `stands`; limits `anew` begin without any level."""
    found = {
        window: {key: level for key, level in levels.items() if key not in anew}
        for window, levels in reached.items()
    }
    add_stands(found, stands)
    return found


def add_stands(reached: dict[Window, dict[LimitKey, int]], stands: Sequence[Stand]) -> None:
    """Take in levels that were reached."""
    for stand in stands:
        reached.setdefault(stand.window, {})[stand.key] = stand.reached_permille


def stands_of(reached: Reached) -> list[Stand]:
    """Return reached levels one by one."""
    return [
        Stand(key, window, level)
        for window, levels in reached.items()
        for key, level in levels.items()
    ]
