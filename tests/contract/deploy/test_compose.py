"""The compose deployment: what can be known about it without a Docker engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterstream.cli.main import COMMANDS
from meterstream.local.jars import KAFKA_VERSION
from meterstream.local.kafka_settings import MESSAGE_BYTES_MAX

_ROOT = Path(__file__).resolve().parents[3]
_COMPOSE = _ROOT / "deploy" / "compose"
_FILE: dict[str, Any] = yaml.safe_load((_COMPOSE / "compose.yaml").read_text())
_SERVICES: dict[str, dict[str, Any]] = _FILE["services"]
_TASKS = {
    name
    for service in _SERVICES.values()
    for name, awaited in service.get("depends_on", {}).items()
    if awaited["condition"] == "service_completed_successfully"
}
_OWN = [name for name, service in _SERVICES.items() if service["image"] == "meterstream:local"]


@pytest.mark.parametrize("name", sorted(_SERVICES.keys() - _TASKS))
def test_every_service_that_stays_has_a_health_check(name: str) -> None:
    """Docker can tell whether the service works, and restarts it when it ends."""
    assert _SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert _SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(_TASKS))
def test_tasks_run_once(name: str) -> None:
    """A service that others wait for to complete is not started again."""
    assert _SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", sorted(_SERVICES))
def test_ports_are_bound_to_loopback(name: str) -> None:
    """Nothing is reachable from another machine."""
    for port in _SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name} publishes {port}"


@pytest.mark.parametrize("name", sorted(_SERVICES))
def test_no_container_runs_as_root(name: str) -> None:
    """Each container names an unprivileged user by number."""
    user, _, group = _SERVICES[name]["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_image_runs_as_the_user_that_the_services_name() -> None:
    """The last USER of the image is the one that the compose file starts it with."""
    dockerfile = (_COMPOSE / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    assert {_SERVICES[name]["user"] for name in _OWN} == {users[-1]}


@pytest.mark.parametrize("name", _OWN)
def test_commands_exist(name: str) -> None:
    """What a container is told to run is a command of ours."""
    command = _SERVICES[name]["command"]
    assert command[0] in COMMANDS


@pytest.mark.parametrize("name", sorted(_SERVICES.keys() - set(_OWN)))
def test_images_are_pinned(name: str) -> None:
    """An official image is named with its version, so that a pull changes nothing by itself."""
    _, _, tag = _SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"\d+(\.\d+)+", tag)


def test_kafka_is_the_version_of_the_embedded_stack() -> None:
    """Both ways to start Meterstream run the same Kafka with the same message limit."""
    kafka = _SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == str(MESSAGE_BYTES_MAX)


@pytest.mark.parametrize("name", sorted(_SERVICES.keys() - _TASKS))
def test_published_ports_are_what_the_service_listens_on(name: str) -> None:
    """The health check and the published port of a service of ours are its metrics port."""
    if name not in _OWN:
        return
    service = _SERVICES[name]
    port = service["environment"][f"METERSTREAM_{service['command'][0].upper()}_METRICS_PORT"]
    (published,) = service["ports"]
    assert published.endswith(f":{port}")
    assert service["healthcheck"]["test"][-1] == port


def test_no_two_services_publish_one_port() -> None:
    """All of them can be started on one machine."""
    ports = [port.split(":")[1] for each in _SERVICES.values() for port in each.get("ports", [])]
    assert len(set(ports)) == len(ports)


def test_everything_awaited_and_mounted_is_declared() -> None:
    """Every name that a service refers to stands in the file."""
    for service in _SERVICES.values():
        assert service.get("depends_on", {}).keys() <= _SERVICES.keys()
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= _FILE["volumes"].keys()


def test_the_image_installs_every_part() -> None:
    """Each part that has a project file is copied into the build and installed."""
    dockerfile = (_COMPOSE / "Dockerfile").read_text()
    ignored = (_COMPOSE / "Dockerfile.dockerignore").read_text().splitlines()
    for project in [*_ROOT.glob("*/pyproject.toml"), *_ROOT.glob("deploy/*/pyproject.toml")]:
        part = project.parent.relative_to(_ROOT)
        assert f" ./{part}" in dockerfile, f"the Dockerfile does not install {part}"
        assert f"!{part.parts[0]}" in ignored, f"{part} does not enter the build"
