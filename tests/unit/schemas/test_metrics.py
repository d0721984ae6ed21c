"""The catalogue of metrics."""

from prometheus_client import CollectorRegistry

from meterstream.schemas.metrics import METRICS
from meterstream.schemas.prometheus import build


def test_nobody_is_named() -> None:
    """No metric has a label that could hold a person or a team."""
    labels = {label for metric in METRICS for label in metric.labels}
    assert not labels & {"user", "user_id", "team", "team_id", "organisation", "email", "key"}


def test_names_are_unique() -> None:
    """All metrics of all services can stand in one registry."""
    registry = CollectorRegistry()
    build(METRICS, registry)
    assert len({metric.full_name for metric in METRICS}) == len(METRICS)
