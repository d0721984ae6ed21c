"""What a record decides of limits: what happened to them, and where they stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .limit_index import Standings
from .limits import Limit, LimitKey, Stand
from .telling import Telling
from .windows import Window

CrossingKind = Literal["reset", "reached", "blocked"]
Reason = Literal["window", "changed", "removed", "corrected"]

_ORDER: Final[dict[CrossingKind, int]] = {"reset": 0, "reached": 1, "blocked": 2}


@dataclass(frozen=True, slots=True)
class Crossing:
    """A level was reached, or a hard limit began or ceased to block."""

    kind: CrossingKind
    limit: Limit
    window: Window
    used: int
    """The total: with the event that made the difference where one did."""
    level_permille: int = 0
    """Of `reached`."""
    reason: Reason | None = None
    """Of `reset`."""
    at: int | None = None
    """Which of the uses made the difference; None where no event did."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Where limits stand after a record, and what happened to them with it."""

    standings: tuple[Standings, ...] = ()
    """Of one limit and window the last one holds."""
    crossings: tuple[Crossing, ...] = ()
    """In the order of their events; first those that no event caused."""
    stands: tuple[Stand, ...] = ()
    """The levels that were not reached before."""
    accounts: Sequence[str] = ()
    """The teams whose balances are to be told whether they changed or not."""
    telling: Telling | None = None
    """Which limits are told after the record, if some are left for the next ones."""


def place_of(one: Crossing) -> tuple[int, LimitKey, int, int]:
    """Return what crossings are ordered by: their event, then their limit."""
    at = -1 if one.at is None else one.at
    return at, one.limit.key, _ORDER[one.kind], one.level_permille
