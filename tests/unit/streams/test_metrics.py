"""The metrics of the meter and the publisher are those of the catalogue."""

from typing import Any

import pytest

from meterstream.schemas.metrics import METER, PUBLISHER
from meterstream.streams.metrics import MeterMetrics, PublisherMetrics


@pytest.mark.parametrize(
    ("kind", "catalogue"), [(MeterMetrics, METER), (PublisherMetrics, PUBLISHER)]
)
def test_attributes_are_the_catalogue(kind: Any, catalogue: tuple[Any, ...]) -> None:
    """Each metric of the catalogue is an attribute, and no attribute is anything else."""
    assert set(kind.__annotations__) == {metric.name for metric in catalogue}


def test_a_partition_that_went_elsewhere() -> None:
    """Gauges of a partition that others work on are gone, and what was counted stays."""
    metrics = MeterMetrics()
    for partition in ("1", "2"):
        metrics.lag_records.labels(partition).set(5)
        metrics.verdicts.labels(partition, "counted").inc()
    metrics.forget(1)
    metrics.forget(7)
    read = metrics.registry.get_sample_value
    assert read("meterstream_meter_lag_records", {"partition": "1"}) is None
    assert read("meterstream_meter_lag_records", {"partition": "2"}) == 5
    name = "meterstream_meter_verdicts_total"
    assert read(name, {"partition": "1", "verdict": "counted"}) == 1
