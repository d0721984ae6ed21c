"""Which services a stack has."""

from pathlib import Path

import pytest

from meterstream.cli.stack.services import NOTIFIER_FILE, plan


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the environment says."""
    monkeypatch.delenv(NOTIFIER_FILE, raising=False)


def test_the_notifier_is_started_where_it_has_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without destinations nobody is to be told; with some it goes on at once after a restart."""
    names = [service.name for service in plan(2, {}, tmp_path)]
    assert names == ["sink", "publisher", "meter-1", "meter-2"]
    (told,) = (each for each in plan(1, {NOTIFIER_FILE: "n.yaml"}, tmp_path) if "not" in each.name)
    assert told.name == "notifier"
    assert told.argv[-1] == "notifier"
    assert told.env["METERSTREAM_NOTIFIER_INSTANCE"] == "stack"
    assert str(told.ready).endswith(f":{told.env['METERSTREAM_NOTIFIER_METRICS_PORT']}/readyz")
    monkeypatch.setenv(NOTIFIER_FILE, "n.yaml")
    assert "notifier" in {service.name for service in plan(1, {}, tmp_path)}
