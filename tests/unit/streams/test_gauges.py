"""What a partition's worker tells Prometheus about its state."""

import time

from tests.support.craft import NOW, Partition, entries, envelope, run

from meterstream.streams.gauges import measure_state, measure_step
from meterstream.streams.metrics import MeterMetrics


def _read(metrics: MeterMetrics, name: str) -> float:
    value = metrics.registry.get_sample_value(f"meterstream_meter_{name}", {"partition": "0"})
    assert value is not None
    return value


def test_lag_grows_with_what_waits_and_ends_with_it() -> None:
    """While events wait their number and the last one's age are told, and nothing after that."""
    partition, metrics = Partition(), MeterMetrics()
    partition.take(run())
    measure_state(metrics, partition.state, (8, 0.0))
    assert _read(metrics, "lag_records") == 7
    age_s = time.time() - partition.state.last_event.time_us / 1e6
    assert abs(_read(metrics, "lag_seconds") - age_s) < 60
    measure_state(metrics, partition.state, (1, 0.0))
    assert _read(metrics, "lag_records") == _read(metrics, "lag_seconds") == 0


def test_a_partition_that_has_read_nothing_has_no_age() -> None:
    """Before the first event there is none whose age could be told, however many wait."""
    partition, metrics = Partition(), MeterMetrics()
    measure_state(metrics, partition.state, (8, 0.0))
    assert _read(metrics, "lag_records") == 8
    assert _read(metrics, "lag_seconds") == 0


def test_accounts_and_limits_are_added_up() -> None:
    """Sums of all accounts of a partition are told, and that they fit together."""
    partition, metrics = Partition(), MeterMetrics()
    grant = {"grant_id": "g", "kind": "funded", "amount_micro": 100}
    limit = {
        "limit_id": "l", "version": 1, "subject": "team", "measure": "runs", "window": "day",
        "amount": 5,
    }  # fmt: skip
    control = [
        envelope("credits.granted", f"g-{team}", NOW, {"team_id": team, **grant})
        for team in ("team", "other")
    ]
    control.append(envelope("limit.set", "l", NOW, {"team_id": "team", **limit}))
    partition.take(run(credits_micro=130), control=entries(*control))
    measure_state(metrics, partition.state, None)
    names = ("granted", "overdrawn", "drawn", "expired", "rolled_over", "left", "difference")
    found = [_read(metrics, f"credits_{name}_micro") for name in names]
    assert found == [200, 30, 130, 0, 0, 100, 0]
    assert [_read(metrics, name) for name in ("limits", "accounts")] == [1, 2]
    assert _read(metrics, "total_subjects") >= 1
    metrics.forget(0)
    assert (
        metrics.registry.get_sample_value(
            "meterstream_meter_credits_left_micro", {"partition": "0"}
        )
        is None
    )


def test_what_no_card_prices_is_counted_apart() -> None:
    """Each counted run that no rate card prices adds one, and no other run does."""
    partition, metrics = Partition(), MeterMetrics()
    step = partition.take(run("a"), run("a"), run("b", credits_micro=1), run("c"))
    measure_step(metrics, 0, step, 4)
    assert _read(metrics, "unpriced_total") == 2
