"""How much one of several processes may have in use that the others cannot see yet.

What a process has reserved or used is known to the others `settling_s` later at the latest. So at
any moment they may have in use, unseen, their share (1 / processes) of what was left that long ago,
and this process may use the rest of what is left now:

    share = left now - (processes - 1) / processes * left then

If that holds for each process when it admits a run, all of them together stay within the limit as
long as a run takes no longer than `settling_s` from its reservation until all gates know of it.
While use is slow the share is what is left now, divided by the processes.

Nothing in this asks which team a run is of, or in which partition its event lies: only that each
process counts a run of its own as held until the used amount that it knows contains it, and that
all others know it `settling_s` after its reservation. So it holds for the limit of an organisation
too, of whose teams each process runs some or all: what it runs of any of them is held in one sum,
and each run is let go when its own partition of events is told to be part of what is used. Only
more processes may share it, and all know of a run later, by what the second stage takes.
"""

from typing import Final, NamedTuple

from .settings import GateSettings
from .states import State

SECOND_STAGE_S: Final = 2.0
"""By so much later than a team's limit one of an organisation is told what was used."""

_STEPS: Final = 32
"""How finely the time that settling takes is divided."""


class Sharing(NamedTuple):
    """Among how many processes limits are shared, and when all of them know of a run."""

    processes: int
    settling_s: float


def sharing(settings: GateSettings) -> tuple[Sharing, Sharing]:
    """Return how limits of teams are shared, and how those of organisations."""
    processes, settling_s = settings.gate_processes, settings.gate_settling_s
    of_organisations = settings.gate_organisation_processes or processes
    return (
        Sharing(processes, settling_s),
        Sharing(of_organisations, settling_s + SECOND_STAGE_S),
    )


class Recent:
    """What was used by the states of one limit and window of late. Replaced, never changed."""

    __slots__ = ("_past", "_state", "_told_at_s")

    def __init__(self, state: State, at_s: float, past: tuple[tuple[float, int], ...] = ()) -> None:
        self._state: Final = state
        self._told_at_s: Final = at_s
        self._past: Final = past or ((at_s, state.used),)
        """When something was told, and how much was used by then; ascending, gaps left out."""

    def then(self, state: State, at_s: float, settling_s: float) -> "Recent":
        """Return what is recent after a further state."""
        if state.window_start_us != self._state.window_start_us:
            return Recent(state, at_s)
        past = self._past
        if self._told_at_s - past[-1][0] >= settling_s / _STEPS:
            past = (*past, (self._told_at_s, self._state.used))
        first = 0
        while first + 1 < len(past) and past[first + 1][0] <= at_s - settling_s:
            first += 1
        return Recent(state, at_s, past[first:])

    def used_before(self, moment_s: float) -> int:
        """Return what was used as far as it was known at a moment; the earliest known, if later."""
        if self._told_at_s <= moment_s:
            return self._state.used
        used = self._past[0][1]
        for at_s, known in self._past:
            if at_s > moment_s:
                break
            used = known
        return used


def share_of(
    state: State, recent: Recent | None, now_s: float, settling_s: float, processes: int
) -> int:
    """Return how much this process may have in use of what `state` leaves."""
    left = state.amount - state.used
    if processes == 1:
        return left
    used_then = recent.used_before(now_s - settling_s) if recent is not None else state.used
    left_then = max(left, state.amount - used_then)
    of_others = -(-left_then * (processes - 1) // processes)  # rounded up
    return left - of_others
