"""The SDK's own metrics, built from the catalogue in `schemas`."""

from typing import Final, cast
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from meterstream.schemas.metrics import PRODUCER
from meterstream.schemas.prometheus import build

Family = Counter | Gauge | Histogram

_BY_REGISTRY: Final[WeakKeyDictionary[CollectorRegistry, dict[str, Family]]] = WeakKeyDictionary()


def families(registry: CollectorRegistry | None) -> dict[str, Family]:
    """Return the metrics by name; whoever is in a process shares those of one registry."""
    registry = REGISTRY if registry is None else registry
    if registry not in _BY_REGISTRY:
        _BY_REGISTRY[registry] = build(PRODUCER, registry)
    return _BY_REGISTRY[registry]


class PublisherMetrics:
    """The metrics of one publisher; its name is the label `publisher`."""

    def __init__(self, name: str, registry: CollectorRegistry | None = None) -> None:
        found = families(registry)
        self._name: Final = name
        self._published: Final = cast(Counter, found["published"])
        self._failed: Final = cast(Counter, found["failed"])
        self._problems: Final = cast(Counter, found["problems"])
        self.acknowledged: Final = cast(Counter, found["acknowledged"].labels(name))
        self.spooled_events: Final = cast(Gauge, found["spooled_events"].labels(name))
        self.spooled_bytes: Final = cast(Gauge, found["spooled_bytes"].labels(name))
        self.spool_age_seconds: Final = cast(Gauge, found["spool_age_seconds"].labels(name))
        self.queue_depth: Final = cast(Gauge, found["queue_depth"].labels(name))
        self.delivery_seconds: Final = cast(Histogram, found["delivery_seconds"].labels(name))
        self._by_type: Final[dict[str, Counter]] = {}

    def published(self, event_type: str) -> None:
        """Count an accepted event."""
        counter = self._by_type.get(event_type)
        if counter is None:
            counter = self._by_type[event_type] = self._published.labels(self._name, event_type)
        counter.inc()

    def failed(self, reason: str, count: int = 1) -> None:
        """Count events that were not accepted, or did not arrive: `reason` is the error's class."""
        self._failed.labels(self._name, reason).inc(count)

    def problem(self, kind: str) -> None:
        """Count a problem with the broker or the spool: `kind` is the error's class."""
        self._problems.labels(self._name, kind).inc()


class MeterMetrics:
    """The metrics of the `Meter` facade."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._errors: Final = cast(Counter, families(registry)["metering_errors"])

    def error(self, kind: str) -> None:
        """Count an error: `kind` is its class."""
        self._errors.labels(kind).inc()
