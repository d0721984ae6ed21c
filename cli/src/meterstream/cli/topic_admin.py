"""Creates the topics and checks that they are what everything relies on."""

import time
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from meterstream.cli.errors import CheckFailed, Unreachable
from meterstream.cli.topic_faults import (
    Fault,
    Found,
    Promise,
    find_faults,
    missing_topics,
    safety_settings,
)
from meterstream.schemas.topics import BY_NAME, TOPICS
from meterstream.streams.refusal import Refusal

ANSWER_TIMEOUT_S: Final = 10
ATTEMPT_S: Final = 1.0
"""One attempt to reach a broker. Nothing is waited for where nobody listens."""
VISIBLE_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.1
REPLICAS_WANTED: Final = 3

T = TypeVar("T")


class TopicAdmin:
    """The topics of one prefix on one broker."""

    def __init__(self, kafka: dict[str, str], prefix: str) -> None:
        self._bootstrap = kafka["bootstrap.servers"]
        self._prefix = prefix
        self._all_down = False
        self._refusal = Refusal(self._bootstrap)
        settings: dict[str, Any] = {"log_level": 0, **kafka, "error_cb": self._on_error}
        self._admin = AdminClient(settings)

    def _on_error(self, error: KafkaError) -> None:
        self._refusal.hear(error)
        self._all_down |= error.code() == KafkaError._ALL_BROKERS_DOWN

    def brokers(self) -> int:
        """Return how many brokers there are; Unreachable if none answers."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                return len(self._admin.list_topics(timeout=ATTEMPT_S).brokers)
            except KafkaException as error:
                self._admin.poll(0)
                if self._all_down or time.monotonic() > deadline:
                    raise Unreachable(
                        self._refusal.or_else(
                            f"no Kafka broker answers at {self._bootstrap}"
                            f" ({error.args[0].str()}): start one with `meterstream stack`, or set"
                            " METERSTREAM_KAFKA_BOOTSTRAP"
                        )
                    ) from error

    def found(self) -> dict[str, Found]:
        """Return those of our topics that exist, by their short names."""
        self.brokers()
        metadata = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
        present = [spec.name for spec in TOPICS if self._full(spec.name) in metadata]
        resources = [ConfigResource(ResourceType.TOPIC, self._full(name)) for name in present]
        described = self._admin.describe_configs(resources) if resources else {}
        topics: dict[str, Found] = {}
        for name, resource in zip(present, resources, strict=True):
            entries = _result(described[resource], f"the settings of {resource.name}")
            partitions = metadata[resource.name].partitions
            topics[name] = Found(
                partitions=len(partitions),
                replicas=min((len(each.replicas) for each in partitions.values()), default=0),
                settings={key: str(entry.value) for key, entry in entries.items()},
            )
        return topics

    def create(self, names: list[str], partitions: int) -> None:
        """Create topics by their short names; one that another process just made is fine."""
        replicas = min(self.brokers(), REPLICAS_WANTED)
        new = []
        for name in names:
            spec = BY_NAME[name]
            new.append(
                NewTopic(
                    self._full(name),
                    num_partitions=partitions if spec.partitioned else 1,
                    replication_factor=replicas,
                    config=spec.config() | safety_settings(replicas),
                )
            )
        if not new:
            return
        for full, future in self._admin.create_topics(new).items():
            try:
                future.result(ANSWER_TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    reason = error.args[0].str()
                    raise CheckFailed(f"{full} could not be created: {reason}") from error
        self._wait_until_led([self._full(name) for name in names])

    def _wait_until_led(self, topics: list[str]) -> None:
        """A broker says that a topic is created before it tells clients about its leaders."""
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        while True:
            known = self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics
            unled = [
                name
                for name in topics
                if name not in known
                or known[name].error is not None
                or not known[name].partitions
                or any(each.leader < 0 for each in known[name].partitions.values())
            ]
            if not unled:
                return
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{unled[0]} was created, but has no leader after {VISIBLE_TIMEOUT_S:.0f} s: "
                    "look into the broker's log"
                )
            time.sleep(POLL_S)

    def mend(self, faults: list[Fault]) -> list[Fault]:
        """Change the settings that mend faults, and return the faults that none can mend."""
        changes: dict[str, dict[str, str]] = {}
        for fault in faults:
            if fault.settings:
                changes.setdefault(fault.topic, {}).update(fault.settings)
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                topic,
                incremental_configs=[
                    ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                    for name, value in settings.items()
                ],
            )
            for topic, settings in changes.items()
        ]
        if resources:
            for resource, future in self._admin.incremental_alter_configs(resources).items():
                _result(future, f"changing the settings of {resource.name}")
        return [fault for fault in faults if not fault.settings]

    def faults(self, found: dict[str, Found], partitions: int, promise: Promise) -> list[Fault]:
        """Compare what is there with what must be."""
        return find_faults(self._prefix, found, partitions, promise)

    def missing(self, found: dict[str, Found]) -> list[Fault]:
        """Name what is not there."""
        return missing_topics(self._prefix, found)

    def _full(self, name: str) -> str:
        return f"{self._prefix}{name}"


def _result(future: "Future[T]", what: str) -> T:
    try:
        return future.result(ANSWER_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        raise Unreachable(f"{what}: {reason}") from error
