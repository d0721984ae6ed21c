"""The metrics of a gate, built from the catalogue in `schemas`."""

from collections.abc import Callable
from typing import Final, cast, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from meterstream.producers.metrics import families

from .decision import Rule


class GateMetrics:
    """The metrics of one gate; its name is the label `gate`."""

    def __init__(self, name: str, registry: CollectorRegistry | None = None) -> None:
        found = families(registry)
        checks = cast(Counter, found["gate_checks"])
        self._name: Final = name
        self.decided: Final[dict[Rule, Callable[[], None]]] = {
            rule: checks.labels(name, rule).inc for rule in get_args(Rule)
        }
        """Counts a check or reservation, by the rule that decided it."""
        self._ignored: Final = cast(Counter, found["gate_ignored"])
        self._problems: Final = cast(Counter, found["gate_problems"])
        self.expired: Final = cast(Counter, found["gate_expired"].labels(name))
        self.states: Final = cast(Gauge, found["gate_states"].labels(name))
        self.reservations: Final = cast(Gauge, found["gate_reservations"].labels(name))
        self.age_seconds: Final = cast(Gauge, found["gate_age_seconds"].labels(name))

    def ignored(self, reason: str) -> None:
        """Count a record of the limit states that changed nothing."""
        self._ignored.labels(self._name, reason).inc()

    def problem(self, kind: str) -> None:
        """Count a problem with the broker or a record: `kind` is the error's class."""
        self._problems.labels(self._name, kind).inc()

    def closed(self) -> None:
        """Tell nothing more of a gate that is closed, and let go of it."""
        for gauge in (self.states, self.reservations, self.age_seconds):
            gauge.set_function(lambda: 0)
