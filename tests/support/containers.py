"""Kafka and ClickHouse in Docker containers, for machines that have a Docker engine."""

import contextlib
from typing import Any, Self

from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer
from tests.support.waiting import eventually

from meterstream.local.clickhouse import check_server
from meterstream.local.errors import LocalStackError
from meterstream.local.jars import KAFKA_VERSION
from meterstream.local.kafka import wait_for_broker
from meterstream.local.kafka_settings import broker_settings
from meterstream.local.ports import LOOPBACK, free_ports

CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:25.8"
_START_TIMEOUT_S = 120.0
_PASSWORD = "test"


class _Container:
    """A container on a fixed loopback port, which survives a restart of the container."""

    def __init__(self, container: DockerContainer, inner_port: int) -> None:
        (self.port,) = free_ports(1)
        # The Docker client takes a pair of address and port here, though the type hides it.
        bound: Any = (LOOPBACK, self.port)
        self._container = container.with_bind_ports(inner_port, bound)
        self._made = False

    def start(self) -> Self:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        return self

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        with contextlib.suppress(DockerException):
            self._container.stop()


class KafkaContainer(_Container):
    """The official Kafka image with the settings of the embedded broker."""

    def __init__(self) -> None:
        container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}")
        super().__init__(container, 9092)
        settings = broker_settings(port=9092, controller_port=9093, log_dir="/tmp/kafka", extra={})
        settings |= {
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
        }
        for name, value in settings.items():
            container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        super().start()
        wait_for_broker(self.bootstrap, timeout_s=_START_TIMEOUT_S)
        return self


class ClickHouseContainer(_Container):
    """The official ClickHouse image."""

    user = "default"
    password = _PASSWORD

    def __init__(self) -> None:
        container = DockerContainer(CLICKHOUSE_IMAGE)
        container.with_env("CLICKHOUSE_PASSWORD", _PASSWORD)
        super().__init__(container, 8123)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        super().start()
        eventually(self._answers, _START_TIMEOUT_S, f"ClickHouse answers at {self.url}")
        return self

    def _answers(self) -> bool:
        try:
            check_server(self.url, user=self.user, password=self.password)
        except LocalStackError:
            return False
        return True
