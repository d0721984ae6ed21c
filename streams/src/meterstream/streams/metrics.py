"""The metrics of the meter and the publisher, built from the catalogue in `schemas`."""

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meterstream.schemas.metrics import METER, PUBLISHER
from meterstream.schemas.prometheus import build


class MeterMetrics:
    """The meter's metrics as attributes, and the registry that they are served from."""

    lag_records: Gauge
    lag_seconds: Gauge
    events_position: Gauge
    verdicts: Counter
    rejected: Counter
    unpriced: Counter
    unread_offsets: Counter
    batch_events: Histogram
    stage_seconds: Histogram
    journal_records: Counter
    journal_bytes: Counter
    void_records: Counter
    restarts: Counter
    live_cells: Gauge
    limits: Gauge
    total_subjects: Gauge
    accounts: Gauge
    credits_granted_micro: Gauge
    credits_overdrawn_micro: Gauge
    credits_drawn_micro: Gauge
    credits_expired_micro: Gauge
    credits_rolled_over_micro: Gauge
    credits_left_micro: Gauge
    credits_difference_micro: Gauge
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

    def of_accounts(self, name: str) -> Gauge:
        """Return the gauge of one of the ledger's `SUMS`."""
        gauge: Gauge = getattr(self, f"credits_{name}_micro")
        return gauge

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
    threshold_events: Counter
    threshold_seconds: Histogram
    limit_states: Counter
    organisation_usage: Counter
    knowledge_age_seconds: Gauge
    void_records: Counter
    transactions: Counter
    transaction_seconds: Histogram
    stopped_partitions: Gauge

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update(build(PUBLISHER, self.registry))
