"""The metrics of the meter and the publisher, built from the catalogue in `schemas`."""

import contextlib
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream.schemas.metrics import METER, PUBLISHER, Metric


def build(catalogue: Sequence[Metric], registry: CollectorRegistry) -> dict[str, Any]:
    """Return a Prometheus metric for each one of the catalogue, by its short name."""
    kinds = {"counter": Counter, "gauge": Gauge}
    built: dict[str, Any] = {}
    for metric in catalogue:
        name, text = metric.full_name.removesuffix("_total"), metric.meaning
        if metric.kind == "histogram":
            built[metric.name] = Histogram(
                name, text, metric.labels, registry=registry, buckets=metric.buckets
            )
        else:
            built[metric.name] = kinds[metric.kind](name, text, metric.labels, registry=registry)
    return built


class MeterMetrics:
    """The meter's metrics as attributes, and the registry that they are served from."""

    lag_records: Gauge
    lag_seconds: Gauge
    events_position: Gauge
    verdicts: Counter
    rejected: Counter
    unread_offsets: Counter
    batch_events: Histogram
    stage_seconds: Histogram
    journal_records: Counter
    journal_bytes: Counter
    void_records: Counter
    restarts: Counter
    live_cells: Gauge
    dedup_ids: Gauge
    dedup_bytes: Gauge
    dedup_over_budget: Gauge
    restore_seconds: Gauge
    restored_records: Gauge
    stopped_partitions: Gauge
    clock_seconds: Gauge
    skewed_log_times: Counter
    catalog_age_seconds: Gauge
    snapshot_bytes: Counter
    snapshot_offset: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update(build(METER, self.registry))

    def forget(self, partition: int) -> None:
        """Drop the gauges of a partition that others work on now; counters stay."""
        for metric in METER:
            if metric.kind == "gauge" and metric.labels == ("partition",):
                with contextlib.suppress(KeyError):
                    getattr(self, metric.name).remove(str(partition))


class PublisherMetrics:
    """The publisher's metrics as attributes, and the registry that they are served from."""

    journal_lag_records: Gauge
    dead_letters: Counter
    lost_dead_letters: Counter
    void_records: Counter
    transactions: Counter
    transaction_seconds: Histogram
    stopped_partitions: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update(build(PUBLISHER, self.registry))
