"""When accounts begin: behind all that was counted of their teams before.

What is drawn, and what a correction gives back, is told by event times alone: so none of the runs
that were counted before an account may have a time at which it had begun. Apps whose clocks are
ahead of the broker's send such runs. Their times are kept until the clock has passed them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .draws import Charged

_I64 = NDArray[np.int64]


def _none() -> _I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class CountedBefore:
    """The event times of one team's charges, those of 0 as well."""

    latest_us: int = 0
    """The latest of the records before, where the clock has not passed it."""
    clocks_us: _I64 = field(default_factory=_none)
    """The clocks at the charges of this record, ascending."""
    times_us: _I64 = field(default_factory=_none)
    """The times of their events."""

    @classmethod
    def of(cls, team_id: str, latest_us: int, charged: Charged) -> "CountedBefore":
        """Return what is known of a team; `charged` are the charges of the record."""
        if team_id not in charged.teams:
            return cls(latest_us)
        own = charged.team == list(charged.teams).index(team_id)
        return cls(latest_us, charged.clocks_us[own], charged.times_us[own])

    def since(self, at_us: int) -> int:
        """Return from which event times on an account draws that begins at `at_us`."""
        before = self.times_us[: int(np.searchsorted(self.clocks_us, at_us))]
        return max(at_us, max(self.latest_us, int(before.max(initial=0))) + 1)


def ahead_of(
    charged: Charged, clock_us: int, known: Mapping[str, int], has_begun: Callable[[str], bool]
) -> dict[str, int]:
    """Return the latest event times that the clock has not passed, of teams without an account.

    Only those are told that are later than what is known.
    """
    rows = charged.times_us >= clock_us
    if not rows.any():
        return {}
    latest = np.zeros(len(charged.teams), np.int64)
    np.maximum.at(latest, charged.team[rows], charged.times_us[rows])
    return {
        team_id: time_us
        for team_id, time_us in zip(charged.teams, latest.tolist(), strict=True)
        if time_us > known.get(team_id, 0) and not has_begun(team_id)
    }


def encode_ahead(ahead: Mapping[str, int]) -> bytes:
    """Return event times by team as the JSON of an AHEAD section."""
    return json.dumps(ahead).encode()


def decode_ahead(data: bytes | memoryview) -> dict[str, int]:
    """Return what `encode_ahead` wrote; ValueError if it is none."""
    return {str(team_id): int(time_us) for team_id, time_us in json.loads(bytes(data)).items()}
