"""The decision: may a run begin, by what is known in memory."""

import math
import time
from typing import Final

from prometheus_client import CollectorRegistry

from .amounts import Amounts
from .book import Book
from .decision import Decision, Rule
from .index import Cell, Cells, Seen
from .knowledge import Knowledge
from .metrics import GateMetrics
from .organisations import Above
from .reservation import Reservation, Subjects
from .settings import GateSettings
from .share import share_of, sharing
from .states import State


class Gate:
    """What `LimitGate` and the test gate have in common: they only differ in how they learn.

    All methods may be called by any thread and from event loops: none waits for anything but, in
    `reserve` and what follows on it, a lock that is held for microseconds.
    """

    def __init__(self, settings: GateSettings, registry: CollectorRegistry | None = None) -> None:
        self._settings: Final = settings
        self._metrics: Final = GateMetrics(settings.name, registry)
        self._book: Final = Book(settings.gate_reservation_timeout_s, settings.gate_clock_margin_s)
        self._known: Final = Knowledge(settings, self._book, self._metrics)
        self._teams: Final = self._known.index.owners
        self._organisations: Final = self._known.organisations
        self._sharing: Final = sharing(settings)
        self._max_age_us: Final = int(settings.gate_max_age_s * 1e6)
        self._margin_us: Final = int(settings.gate_clock_margin_s * 1e6)
        self._count: Final = self._metrics.decided
        self._usable = True
        self._metrics.states.set_function(self._known.limits)
        self._metrics.reservations.set_function(lambda: len(self._book))
        self._metrics.age_seconds.set_function(self._greatest_age_s)

    @property
    def settings(self) -> GateSettings:
        """The settings it was made with."""
        return self._settings

    def ready(self) -> bool:
        """Tell whether the states of all limits, and which teams are whose, were read once.

        Until then `gate_fail` decides.
        """
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
        organisations = self._organisations
        above = organisations.above(team) if organisations.in_use else None
        if above is not None:
            cells += above.cells
        seen = [cell.seen for cell in cells]
        rule: Rule = "within_limits"
        for one in seen:
            if one[2]:
                rule = _why(seen)
                break
        return self._decide(team, above, cells, rule, now_us, seen)

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
            cells = self._known.applicable(*whose)
            decision = self._try(team, cells, estimate)
            hold = book.hold(cells, estimate) if decision.allowed else None
        return Reservation(self._book, self._known, whose, decision, hold)

    def expire(self) -> None:
        """Give up what nobody settled in time; done by itself, whenever the gate is used."""
        if expired := self._book.expire():
            self._metrics.expired.inc(expired)

    def _try(self, team: str, cells: Cells, estimate: Amounts) -> Decision:
        now_s = time.monotonic()
        seen: list[Seen] = []
        rules: list[Rule | None] = []
        for cell in cells:
            state, held = cell.state, cell.held
            amount = estimate.of(state.measure)
            processes, settling_s = self._sharing[state.subject == "organisation"]
            refused_by: Rule | None = None
            if state.room <= 0:
                refused_by = "blocked"
            elif held >= state.room or held + amount > state.room:
                refused_by = "held"
            elif amount and held and processes > 1 and state.hard:
                share = share_of(state, cell.recent, now_s, settling_s, processes)
                if held + amount > share:
                    refused_by = "share"
            rules.append(refused_by)
            seen.append((state, held, refused_by is not None))
        above = self._organisations.above(team) if self._organisations.in_use else None
        now_us = time.time_ns() // 1000
        rule = _heaviest(rules, "within_limits")
        return self._decide(team, above, cells, rule, now_us, seen, rules)

    def _decide(
        self,
        team: str,
        above: Above | None,
        cells: Cells,
        rule: Rule,
        now_us: int,
        seen: list[Seen],
        rules: list[Rule | None] | None = None,
    ) -> Decision:
        partition = self._known.partition_of(team)
        clock_us = None if partition is None or not partition.loaded else partition.clock_us
        if above is not None and clock_us is not None:
            clock_us = above.clock_us(clock_us)
        if clock_us is None or now_us - clock_us > self._max_age_us or not self._usable:
            rule, seen = self._without_news(now_us, cells, seen, rules)
        self._count[rule]()
        return Decision(rule, now_us, clock_us, seen)

    def _without_news(
        self, now_us: int, cells: Cells, seen: list[Seen], rules: list[Rule | None] | None
    ) -> tuple[Rule, list[Seen]]:
        """Decide where too little is known of some limits, or of all, by `gate_fail`.

        What is known to be reached stays so until its window has ended: news can only confirm it,
        but for a limit that was raised or credits that were granted meanwhile. Limits of which
        enough is known refuse as they always do.
        """
        if self._settings.gate_fail == "fail_closed":
            return "fail_closed", seen
        still: list[Seen] = []
        refusing: list[Rule | None] = []
        for number, (cell, (state, held, refuses)) in enumerate(zip(cells, seen, strict=True)):
            rule: Rule | None = None
            if refuses:
                rule = _why([(state, held, True)]) if rules is None else rules[number]
                if not self._has_news(cell, now_us) and not self._lasts(state, rule, now_us):
                    rule = None
            still.append((state, held, rule is not None))
            refusing.append(rule)
        return _heaviest(refusing, "fail_open"), still

    def _has_news(self, cell: Cell, now_us: int) -> bool:
        """Tell whether enough is known of a limit."""
        clock_us = cell.teller.clock_us if cell.teller.loaded and self._usable else None
        return clock_us is not None and now_us - clock_us <= self._max_age_us

    def _lasts(self, state: State, rule: Rule | None, now_us: int) -> bool:
        """Tell whether a limit goes on to refuse without news of it."""
        ends_us = state.window_end_us
        return rule != "share" and (ends_us is None or ends_us > now_us - self._margin_us)

    def _greatest_age_s(self) -> float:
        clock_us = self._known.clock_us
        return math.inf if clock_us is None else max(0, time.time_ns() // 1000 - clock_us) / 1e6


def _why(seen: list[Seen]) -> Rule:
    """Return the rule by which limits refuse, where some do."""
    return "blocked" if any(full and state.room <= 0 for state, _, full in seen) else "held"


_HEAVIEST_FIRST: Final[tuple[Rule, ...]] = ("blocked", "held", "share")


def _heaviest(rules: list[Rule | None], otherwise: Rule) -> Rule:
    """Return the rule that tells most of those by which limits refuse; `otherwise` if none does."""
    return next((one for one in _HEAVIEST_FIRST if one in rules), otherwise)
