"""The decision: may a run begin, by what is known in memory."""

import math
import time
from typing import Final

from prometheus_client import CollectorRegistry

from .amounts import Amounts
from .book import Book
from .decision import Decision, Rule
from .index import Cells, Seen
from .knowledge import Knowledge
from .metrics import GateMetrics
from .partition import Partition
from .reservation import Reservation, Subjects
from .settings import GateSettings
from .share import share_of


class Gate:
    """What `LimitGate` and the test gate have in common: they only differ in how they learn.

    All methods may be called by any thread and from event loops: none waits for anything but, in
    `reserve` and what follows on it, a lock that is held for microseconds.
    """

    def __init__(self, settings: GateSettings, registry: CollectorRegistry | None = None) -> None:
        self._settings: Final = settings
        self._metrics: Final = GateMetrics(settings.name, registry)
        self._book: Final = Book(settings.gate_reservation_timeout_s)
        self._known: Final = Knowledge(settings, self._book, self._metrics)
        self._teams: Final = self._known.index.teams
        self._max_age_us: Final = int(settings.gate_max_age_s * 1e6)
        self._margin_us: Final = int(settings.gate_clock_margin_s * 1e6)
        self._count: Final = self._metrics.decided
        self._usable = True
        self._metrics.states.set_function(lambda: len(self._known.index.cells))
        self._metrics.reservations.set_function(lambda: len(self._book))
        self._metrics.age_seconds.set_function(self._greatest_age_s)

    @property
    def settings(self) -> GateSettings:
        """The settings it was made with."""
        return self._settings

    def ready(self) -> bool:
        """Tell whether the states of all limits were read once; until then `gate_fail` decides."""
        return self._usable and self._known.loaded

    def check(
        self,
        team: str,
        user: str | None = None,
        agent: str | None = None,
        project: str | None = None,
        feature: str | None = None,
    ) -> Decision:
        """Tell whether a run may begin, from memory, in microseconds. Never raises.

        What it answers holds for the moment: of runs that begin side by side each sees the same
        room. `reserve` takes the room as well.
        """
        now_us = time.time_ns() // 1000
        found = self._teams.get(team)
        cells: Cells = () if found is None else found.applicable(user, agent, project, feature)
        partition = self._known.partition_of(team)
        seen = [cell.seen for cell in cells]
        rule: Rule = "within_limits"
        for one in seen:
            if one[2]:
                rule = _why(seen)
                break
        return self._decide(rule, now_us, partition, seen)

    def reserve(
        self,
        estimate: Amounts,
        team: str,
        user: str | None = None,
        agent: str | None = None,
        project: str | None = None,
        feature: str | None = None,
    ) -> Reservation:
        """Admit a run and hold what it is expected to use against its limits, in one step.

        A refused reservation holds nothing: look at `allowed`. An admitted one is settled when the
        run has ended, or released if it did not run.
        """
        whose = Subjects(team, user, agent, project, feature)
        book = self._book
        self.expire()
        with book.lock:
            decision = self._try(whose, estimate)
            hold = book.hold(self._cells(whose), estimate) if decision.allowed else None
        return Reservation(self._book, self._known, whose, decision, hold)

    def expire(self) -> None:
        """Give up what nobody settled in time; done by itself, whenever the gate is used."""
        if expired := self._book.expire():
            self._metrics.expired.inc(expired)

    def _cells(self, whose: Subjects) -> Cells:
        found = self._teams.get(whose.team)
        return () if found is None else found.applicable(*whose[1:])

    def _try(self, whose: Subjects, estimate: Amounts) -> Decision:
        settings, now_s = self._settings, time.monotonic()
        seen: list[Seen] = []
        rules: set[Rule] = set()
        for cell in self._cells(whose):
            state, held = cell.state, cell.held
            amount = estimate.of(state.measure)
            refused_by: Rule | None = None
            if state.room <= 0:
                refused_by = "blocked"
            elif held >= state.room or held + amount > state.room:
                refused_by = "held"
            elif amount and held and settings.gate_processes > 1 and state.hard:
                share = share_of(
                    state, cell.recent, now_s, settings.gate_settling_s, settings.gate_processes
                )
                if held + amount > share:
                    refused_by = "share"
            if refused_by is not None:
                rules.add(refused_by)
            seen.append((state, held, refused_by is not None))
        rule: Rule = next((one for one in _HEAVIEST_FIRST if one in rules), "within_limits")
        partition = self._known.partition_of(whose.team)
        return self._decide(rule, time.time_ns() // 1000, partition, seen)

    def _decide(
        self, rule: Rule, now_us: int, partition: Partition | None, seen: list[Seen]
    ) -> Decision:
        clock_us = None if partition is None or not partition.loaded else partition.clock_us
        if clock_us is None or now_us - clock_us > self._max_age_us or not self._usable:
            rule, seen = self._without_news(rule, now_us, seen)
        self._count[rule]()
        return Decision(rule, now_us, clock_us, seen)

    def _without_news(self, rule: Rule, now_us: int, seen: list[Seen]) -> tuple[Rule, list[Seen]]:
        """Decide where too little is known, by `gate_fail`.

        What is known to be reached stays so until its window has ended: news can only confirm it,
        but for a limit that was raised or credits that were granted meanwhile.
        """
        if self._settings.gate_fail == "fail_closed":
            return "fail_closed", seen
        ended_us = now_us - self._margin_us
        still = [
            (
                state,
                held,
                refuses
                and rule != "share"
                and (state.window_end_us is None or state.window_end_us > ended_us),
            )
            for state, held, refuses in seen
        ]
        return (_why(still) if any(one[2] for one in still) else "fail_open"), still

    def _greatest_age_s(self) -> float:
        clock_us = self._known.clock_us
        return math.inf if clock_us is None else max(0, time.time_ns() // 1000 - clock_us) / 1e6


def _why(seen: list[Seen]) -> Rule:
    """Return the rule by which limits refuse, where some do."""
    return "blocked" if any(full and state.room <= 0 for state, _, full in seen) else "held"


_HEAVIEST_FIRST: Final[tuple[Rule, ...]] = ("blocked", "held", "share")
