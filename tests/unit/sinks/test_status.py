"""Metrics and health over HTTP."""

import json
import urllib.error
import urllib.request

import pytest

from meterstream.schemas.metrics import SINK
from meterstream.sinks.errors import SinkError
from meterstream.sinks.metrics import SinkMetrics
from meterstream.sinks.status import StatusServer


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and body of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_pages_tell_metrics_health_and_readiness() -> None:
    """Probes see a fault as 503 with its reason, and Prometheus sees every declared metric."""
    metrics = SinkMetrics()
    faults = {"cells": "is starting"}
    with StatusServer("127.0.0.1", 0, metrics.registry, dict, lambda: faults) as server:
        assert get(server.port, "/healthz") == (200, json.dumps({"ok": True, "faults": {}}))
        status, body = get(server.port, "/readyz")
        assert (status, json.loads(body)["faults"]) == (503, faults)
        status, body = get(server.port, "/metrics?x=1")
        assert status == 200
        for metric in SINK:
            assert f"# HELP {metric.full_name} " in body
        assert get(server.port, "/")[0] == 404


def test_a_port_that_is_taken_is_told_with_its_setting() -> None:
    """The message names the variable that chooses another one."""
    metrics = SinkMetrics()
    with (
        StatusServer("127.0.0.1", 0, metrics.registry, dict, dict) as server,
        pytest.raises(SinkError, match="METERSTREAM_SINK_METRICS_PORT"),
    ):
        StatusServer("127.0.0.1", server.port, metrics.registry, dict, dict)
