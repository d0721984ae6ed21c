"""Draws: which grant paid how much of which charge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_I64 = NDArray[np.int64]

NO_CHARGE: Final = -1
"""The charge of a draw by which a grant pays what was overdrawn before."""

Source = tuple[str, str, str]
"""(team_id, grant_id, kind); the id is empty where no grant is drawn."""


@dataclass(frozen=True, slots=True)
class Charged:
    """The charges of a record in the order of their offsets. Arrays of one length."""

    teams: Sequence[str]
    """The different teams."""
    team: _I64
    """Which of `teams` each is of."""
    amounts: _I64
    """Micro-credits; those of 0 draw nothing."""
    clocks_us: _I64
    """The clock at each of them."""
    times_us: _I64
    """The time of each event."""


NO_CHARGES: Final = Charged((), *(np.zeros(0, np.int64) for _ in range(4)))


class Draws:
    """The draws of one record, as they are found. Sources are numbered."""

    def __init__(self) -> None:
        self.sources: dict[Source, int] = {}
        self._rows: list[_I64] = []
        self._source: list[_I64] = []
        self._amounts: list[_I64] = []
        self._single: list[tuple[int, int, int]] = []

    def source(self, team_id: str, grant_id: str, kind: str) -> int:
        """Return the number of a source."""
        return self.sources.setdefault((team_id, grant_id, kind), len(self.sources))

    def one(self, row: int, source: int, amount: int) -> None:
        """Add a draw; `row` is that of its charge."""
        self._single.append((row, source, amount))

    def many(self, rows: _I64, source: _I64, amounts: _I64) -> None:
        """Add draws: the rows of their charges, the numbers of their sources, micro-credits."""
        self._rows.append(rows)
        self._source.append(source)
        self._amounts.append(amounts)

    def columns(self) -> tuple[_I64, _I64, _I64]:
        """Return all draws by the rows of their charges; those of one charge in their order."""
        single = np.array(self._single, np.int64).reshape(-1, 3)
        rows = np.concatenate([single[:, 0], *self._rows])
        order = np.argsort(rows, kind="stable")
        source = np.concatenate([single[:, 1], *self._source])
        amounts = np.concatenate([single[:, 2], *self._amounts])
        return rows[order], source[order], amounts[order]
