"""The declared metrics as Prometheus serves them.

It needs prometheus-client, which schemas does not ask for: who imports this module depends on it.
"""

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .metrics import Metric

_KINDS: Final[dict[str, Any]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


def build(catalogue: Iterable[Metric], registry: CollectorRegistry) -> dict[str, Any]:
    """Return a metric in `registry` for each one of the catalogue, by its short name."""
    built: dict[str, Any] = {}
    for metric in catalogue:
        name = metric.full_name.removesuffix("_total")
        options = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
        built[metric.name] = _KINDS[metric.kind](
            name, metric.meaning, metric.labels, registry=registry, **options
        )
    return built
