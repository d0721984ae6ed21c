"""Probes and metrics are answered over HTTP, whatever the service's loop does."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from meterstream.schemas.metrics import METER
from meterstream.schemas.prometheus import build
from meterstream.schemas.status import PortTaken, StatusServer


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
    registry = CollectorRegistry()
    metrics = build(METER, registry)
    faults: dict[str, Any] = {}
    with server(registry, faults) as status:
        metrics["verdicts"].labels("3", "counted").inc(7)
        assert get(status.port, "/healthz") == (200, '{"ok": true, "faults": {}}')
        assert get(status.port, "/readyz?verbose")[0] == 200
        faults["catalog"] = "not read"
        code, body = get(status.port, "/readyz")
        assert (code, json.loads(body)["faults"]) == (503, {"catalog": "not read"})
        text = get(status.port, "/metrics")[1]
        assert 'meterstream_meter_verdicts_total{partition="3",verdict="counted"} 7.0' in text
        for metric in METER:
            assert f"# HELP {metric.full_name} " in text
        assert get(status.port, "/else")[0] == 404


def test_a_busy_port() -> None:
    """A port that is taken is refused with the setting that chooses another."""
    with (
        server(CollectorRegistry(), {}) as first,
        pytest.raises(PortTaken, match="THE_PORT"),
    ):
        server(CollectorRegistry(), {}, first.port)
