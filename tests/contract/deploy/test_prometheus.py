"""The alerting rules name metrics that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterstream.schemas.metrics import METRICS

_FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
_RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for file in sorted(_FOLDER.glob("*.yaml"))
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
_SERIES = {
    metric.full_name + suffix
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}


@pytest.mark.parametrize("name", sorted(_RULES))
def test_a_rule_names_metrics_that_exist(name: str) -> None:
    """Each metric of its expression is in the catalogue, and somebody knows what to do."""
    rule = _RULES[name]
    named = set(re.findall(r"\bmeterstream_[a-z_]+", rule["expr"]))
    assert named
    assert named <= _SERIES
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description"}


def test_what_alarms_has_a_rule() -> None:
    """Each metric of the notifier that alarms is watched by a rule."""
    watched = " ".join(rule["expr"] for rule in _RULES.values())
    for metric in METRICS:
        if metric.service == "notifier" and "Alarm" in metric.meaning:
            assert metric.full_name in watched


def test_what_no_rate_card_prices_raises_an_alert() -> None:
    """Unpriced usage never stays unseen."""
    assert any("meterstream_meter_unpriced_total" in rule["expr"] for rule in _RULES.values())
