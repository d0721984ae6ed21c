"""The metrics of the sink are those of the catalogue."""

from meterstream.schemas.metrics import SINK
from meterstream.sinks.metrics import SinkMetrics


def test_attributes_are_the_catalogue() -> None:
    """Each metric of the catalogue is an attribute, and no attribute is anything else."""
    names = {metric.name for metric in SINK}
    assert set(SinkMetrics.__annotations__) == names
    assert names <= vars(SinkMetrics()).keys()
