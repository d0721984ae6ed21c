"""The alert rules that ship with the deployment."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterstream.schemas.metrics import METRICS

FILES = sorted((Path(__file__).parents[3] / "deploy" / "prometheus").glob("*.rules.yaml"))


def rules(path: Path) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_alerts_ask_for_metrics_that_exist(path: Path) -> None:
    """Each rule names a metric of the catalogue, and says what happened and what to do."""
    known = {metric.full_name for metric in METRICS}
    for rule in rules(path):
        named = set(re.findall(r"meterstream_\w+", rule["expr"]))
        assert named, rule["alert"]
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= known
        assert rule["annotations"].keys() == {"summary", "description"}


def test_unpriced_usage_raises_an_alert() -> None:
    """What no rate card prices never stays unseen."""
    expressions = [rule["expr"] for path in FILES for rule in rules(path)]
    assert any("meterstream_meter_unpriced_total" in one for one in expressions)
