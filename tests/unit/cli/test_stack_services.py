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
    assert names == [
        "sink", "publisher-organisations", "meter-organisations", "publisher", "meter-1", "meter-2",
    ]  # fmt: skip
    (told,) = (each for each in plan(1, {NOTIFIER_FILE: "n.yaml"}, tmp_path) if "not" in each.name)
    assert told.name == "notifier"
    assert told.argv[-1] == "notifier"
    assert told.env["METERSTREAM_NOTIFIER_INSTANCE"] == "stack"
    assert str(told.ready).endswith(f":{told.env['METERSTREAM_NOTIFIER_METRICS_PORT']}/readyz")
    monkeypatch.setenv(NOTIFIER_FILE, "n.yaml")
    assert "notifier" in {service.name for service in plan(1, {}, tmp_path)}


def test_each_service_has_a_port_of_its_own(tmp_path: Path) -> None:
    """A meter and a publisher of each stage run side by side, and are told which they are."""
    services = {service.name: service for service in plan(1, {}, tmp_path)}
    ports = set()
    for name in ("meter", "publisher"):
        for full, options in ((name, []), (f"{name}-organisations", ["--organisations"])):
            service = services[full]
            assert service.argv[-1 - len(options) :] == [name, *options]
            ports.add(service.env[f"METERSTREAM_{name.upper()}_METRICS_PORT"])
            assert service.log_path.name == f"{full}.log"
    assert len(ports) == 4
