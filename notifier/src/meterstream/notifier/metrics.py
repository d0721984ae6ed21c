"""The notifier's metrics, built from the catalogue in `schemas`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream.schemas.metrics import NOTIFIER
from meterstream.schemas.prometheus import build


class NotifierMetrics:
    """The metrics as attributes, and the registry that they are served from."""

    sent: Counter
    failed_attempts: Counter
    retries: Counter
    dead_letters: Counter
    delivery_seconds: Histogram
    backlog_events: Gauge
    failing_destinations: Gauge
    stopped_destinations: Gauge
    missed_events: Counter
    unreadable_events: Counter

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update(build(NOTIFIER, self.registry))
