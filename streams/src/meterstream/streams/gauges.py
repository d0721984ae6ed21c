"""What a partition's worker tells Prometheus about its state and its steps."""

import logging
import time

from meterstream.schemas.journal import Kind

from .core import PartitionState, Step
from .metrics import MeterMetrics

log = logging.getLogger("meterstream.meter")


def measure_state(
    metrics: MeterMetrics, state: PartitionState, stable_end: tuple[int, float] | None
) -> None:
    """Set the gauges of a partition."""
    label = str(state.partition)
    lag = max(0, stable_end[0] - state.events_position) if stable_end is not None else 0
    has_read = state.last_event.time_us > 0
    behind = time.time() - state.last_event.time_us / 1e6 if lag and has_read else 0.0
    metrics.lag_records.labels(label).set(lag)
    metrics.lag_seconds.labels(label).set(max(0.0, behind))
    metrics.events_position.labels(label).set(state.events_position)
    metrics.clock_seconds.labels(label).set(state.clock_us / 1e6)
    metrics.live_cells.labels(label).set(state.live_cells)
    metrics.dedup_ids.labels(label).set(state.dedup_ids)
    metrics.dedup_bytes.labels(label).set(state.dedup_bytes)
    metrics.limits.labels(label).set(len(state.control.limits))
    metrics.total_subjects.labels(label).set(len(state.totals))
    metrics.accounts.labels(label).set(len(state.ledger))
    for name, amount in state.ledger.sums.items():
        metrics.of_accounts(name).labels(label).set(amount)


def measure_step(metrics: MeterMetrics, partition: int, step: Step, events: int) -> None:
    """Count what a step that is in the journal has decided."""
    label = str(partition)
    metrics.journal_records.labels(label, step.kind.name.lower()).inc()
    metrics.journal_bytes.labels(label).inc(len(step.value))
    for verdict, count in step.counts.items():
        metrics.verdicts.labels(label, verdict).inc(count)
    for reason, count in step.reasons.items():
        metrics.rejected.labels(label, reason).inc(count)
    if step.unpriced:
        metrics.unpriced.labels(label).inc(step.unpriced)
    if step.kind is Kind.STEP:
        metrics.batch_events.observe(events)
    if step.skewed_log_times:
        metrics.skewed_log_times.labels(label).inc(step.skewed_log_times)
        log.error(
            "partition %d: %d events carry log times far ahead; they do not move the clock."
            " Check the brokers' clocks",
            partition,
            step.skewed_log_times,
        )
