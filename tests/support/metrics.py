"""What a running service tells Prometheus."""

from prometheus_client.parser import text_string_to_metric_families

from .services import Service


def metric(service: Service, name: str, **labels: str) -> float:
    """Return a metric by its full name, summed over all labels but those that are given."""
    _, page = service.get("/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
