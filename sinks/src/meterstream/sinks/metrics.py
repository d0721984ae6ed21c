"""The sink's metrics, built from the catalogue in `schemas`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream.schemas.metrics import SINK
from meterstream.schemas.prometheus import build


class SinkMetrics:
    """The metrics as attributes, and the registry that they are served from."""

    lag_records: Gauge
    lag_seconds: Gauge
    records: Counter
    void_records: Counter
    freshness_seconds: Histogram
    flush_seconds: Histogram
    rows: Counter
    retries: Counter
    quarantined_rows: Counter
    closed_until_seconds: Gauge
    missing_events: Counter
    refused_entries: Counter
    truncations: Counter
    stopped_feeds: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update(build(SINK, self.registry))
