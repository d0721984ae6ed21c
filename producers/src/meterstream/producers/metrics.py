"""The SDK's own metrics. No label holds a team, a user or anything else of a person."""

from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_PREFIX: Final = "meterstream_producer_"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 86_400)


class _Families:
    """The metric families in one registry, which all publishers of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, meaning, ("publisher", *labels), registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(_PREFIX + name, meaning, ("publisher",), registry=registry)

        self.published = counter("published", "Events accepted by publish, by event type.", "type")
        self.acknowledged = counter(
            "acknowledged", "Events that all in-sync replicas of the broker have."
        )
        self.failed = counter(
            "failed",
            "Events that were not accepted, or were accepted and lost or refused, by reason.",
            "reason",
        )
        self.problems = counter(
            "problems", "Problems with the broker or spool while sending, by kind.", "kind"
        )
        self.spooled_events = gauge(
            "spooled_events", "Events in the spool that are not yet acknowledged."
        )
        self.spooled_bytes = gauge("spooled_bytes", "Bytes of disk that the spool takes.")
        self.spool_age_seconds = gauge(
            "spool_age_seconds", "How long this process has tried to send its oldest event."
        )
        self.queue_depth = gauge(
            "queue_depth", "Events in memory that are not yet written to the spool."
        )
        self.delivery_seconds = Histogram(
            _PREFIX + "delivery_seconds",
            "Seconds from accepting an event to its acknowledgement.",
            ("publisher",),
            buckets=_SECONDS,
            registry=registry,
        )


_BY_REGISTRY: Final[WeakKeyDictionary[CollectorRegistry, _Families]] = WeakKeyDictionary()


class PublisherMetrics:
    """The metrics of one publisher; its name is the label `publisher`."""

    def __init__(self, name: str, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        families = _BY_REGISTRY.get(registry)
        if families is None:
            families = _BY_REGISTRY[registry] = _Families(registry)
        self._families: Final = families
        self._name: Final = name
        self.acknowledged: Final = families.acknowledged.labels(name)
        self.spooled_events: Final = families.spooled_events.labels(name)
        self.spooled_bytes: Final = families.spooled_bytes.labels(name)
        self.spool_age_seconds: Final = families.spool_age_seconds.labels(name)
        self.queue_depth: Final = families.queue_depth.labels(name)
        self.delivery_seconds: Final = families.delivery_seconds.labels(name)
        self._published: Final[dict[str, Counter]] = {}

    def published(self, event_type: str) -> None:
        """Count an accepted event."""
        counter = self._published.get(event_type)
        if counter is None:
            counter = self._families.published.labels(self._name, event_type)
            self._published[event_type] = counter
        counter.inc()

    def failed(self, reason: str, count: int = 1) -> None:
        """Count events that were not accepted, or did not arrive: `reason` is the error's class."""
        self._families.failed.labels(self._name, reason).inc(count)

    def problem(self, kind: str) -> None:
        """Count a problem with the broker or the spool: `kind` is the error's class."""
        self._families.problems.labels(self._name, kind).inc()


_METER_ERRORS: Final[WeakKeyDictionary[CollectorRegistry, Counter]] = WeakKeyDictionary()


class MeterMetrics:
    """The metrics of the `Meter` facade."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        counter = _METER_ERRORS.get(registry)
        if counter is None:
            counter = _METER_ERRORS[registry] = Counter(
                "meterstream_meter_errors",
                "Errors while metering a run or session that were kept from the caller, by kind.",
                ("kind",),
                registry=registry,
            )
        self._errors: Final = counter

    def error(self, kind: str) -> None:
        """Count an error: `kind` is its class."""
        self._errors.labels(kind).inc()
