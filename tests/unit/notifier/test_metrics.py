"""The metrics of the notifier are those of the catalogue."""

from meterstream.notifier.metrics import NotifierMetrics
from meterstream.schemas.metrics import NOTIFIER


def test_attributes_are_the_catalogue() -> None:
    """Each metric of the catalogue is an attribute, and no attribute is anything else."""
    names = {metric.name for metric in NOTIFIER}
    assert set(NotifierMetrics.__annotations__) == names
    assert names <= vars(NotifierMetrics()).keys()
