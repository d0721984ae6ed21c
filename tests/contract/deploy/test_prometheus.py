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
_SCRAPED: list[dict[str, Any]] = [
    target
    for job in yaml.safe_load((_FOLDER / "scrape/services.yaml").read_text())["scrape_configs"]
    for target in job["static_configs"]
]
_COMPOSE = yaml.safe_load((_FOLDER.parent / "compose/compose.yaml").read_text())["services"]
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


def test_every_service_is_scraped_and_says_of_which_stage_it_is() -> None:
    """What the compose file publishes is scraped; meters of teams and organisations differ."""
    owners = {target["targets"][0]: target.get("labels", {}).get("owners") for target in _SCRAPED}
    expected = {}
    for service in _COMPOSE.values():
        if service["image"] == "meterstream:local" and "ports" in service:
            (port,) = service["ports"]
            name, *options = service["command"]
            staged = "organisations" if options else "teams"
            expected[port.rpartition(":")[0]] = staged if name in ("meter", "publisher") else None
    assert owners == expected


def test_no_metric_has_the_label_of_the_stage() -> None:
    """A label that a metric had itself would be renamed where it is scraped."""
    assert not any("owners" in metric.labels for metric in METRICS)
