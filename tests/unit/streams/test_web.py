"""Probes and metrics are answered over HTTP, whatever the service's loop does."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from meterstream.schemas.metrics import METER, METRICS, PUBLISHER
from meterstream.streams.metrics import MeterMetrics, PublisherMetrics, build
from meterstream.streams.web import PortTaken, StatusServer


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and body of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def server(registry: CollectorRegistry, faults: dict[str, Any], port: int = 0) -> StatusServer:
    """Return a server whose readiness tells `faults`."""
    return StatusServer(
        "127.0.0.1", port, registry, healthy=dict, ready=lambda: faults, setting="THE_PORT"
    )


def test_pages() -> None:
    """Health and readiness tell what is wrong by name, and metrics are there."""
    metrics = MeterMetrics()
    faults: dict[str, Any] = {}
    status = server(metrics.registry, faults)
    status.start()
    try:
        metrics.verdicts.labels("3", "counted").inc(7)
        assert get(status.port, "/healthz") == (200, '{"ok": true, "faults": {}}')
        assert get(status.port, "/readyz?verbose")[0] == 200
        faults["catalog"] = "not read"
        code, body = get(status.port, "/readyz")
        assert (code, json.loads(body)["faults"]) == (503, {"catalog": "not read"})
        text = get(status.port, "/metrics")[1]
        assert 'meterstream_meter_verdicts_total{partition="3",verdict="counted"} 7.0' in text
        assert get(status.port, "/else")[0] == 404
    finally:
        status.stop()


def test_a_busy_port() -> None:
    """A port that is taken is refused with the setting that chooses another."""
    first = server(CollectorRegistry(), {})
    first.start()
    try:
        with pytest.raises(PortTaken, match="THE_PORT"):
            server(CollectorRegistry(), {}, first.port)
    finally:
        first.stop()


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


def test_nobody_is_named() -> None:
    """No metric has a label that could hold a person or a team."""
    labels = {label for metric in METRICS for label in metric.labels}
    assert not labels & {"user", "user_id", "team", "team_id", "organisation", "email", "key"}


def test_names_are_unique() -> None:
    """All metrics of all services can stand in one registry."""
    registry = CollectorRegistry()
    build(METRICS, registry)
    assert len({metric.full_name for metric in METRICS}) == len(METRICS)
