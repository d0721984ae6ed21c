"""Creates the topics and checks that they are what everything relies on."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

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
from meterstream.schemas.topics import BY_NAME, EVENTS, JOURNAL, TOPICS, TopicSpec

ANSWER_TIMEOUT_S: Final = 10
VISIBLE_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.1
REPLICAS_WANTED: Final = 3

T = TypeVar("T")

_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing about a topic that is not as it must be; `settings` mend it, if any can."""

    topic: str
    text: str
    settings: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}"


@dataclass(frozen=True, slots=True)
class Promise:
    """What retention has to outlast: deduplication, and the longest outage of a sink."""

    horizon: timedelta = timedelta(hours=24)
    outage: timedelta = timedelta(days=3)

    @property
    def retention_ms(self) -> int:
        """The shortest retention of events and journal."""
        return max(self.horizon, self.outage) // _MS


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions: int
    replicas: int
    settings: dict[str, str]


class TopicAdmin:
    """The topics of one prefix on one broker."""

    def __init__(self, kafka: dict[str, str], prefix: str) -> None:
        self._bootstrap = kafka["bootstrap.servers"]
        self._prefix = prefix
        self._admin = AdminClient({"log_level": 0, **kafka})

    def brokers(self) -> int:
        """Return how many brokers there are; Unreachable if none answers."""
        try:
            return len(self._admin.list_topics(timeout=ANSWER_TIMEOUT_S).brokers)
        except KafkaException as error:
            raise Unreachable(
                f"no Kafka broker answers at {self._bootstrap} ({error.args[0].str()}): "
                "start one with `meterstream stack`, or set METERSTREAM_KAFKA_BOOTSTRAP"
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
        faults = []
        for spec in TOPICS:
            topic = found.get(spec.name)
            if topic is None:
                faults.append(Fault(self._full(spec.name), "is missing: `meterstream topics`"))
            else:
                expected = partitions if spec.partitioned else 1
                faults += topic_faults(self._full(spec.name), spec, topic, expected, promise)
        faults += self._events_outlast_journal(found)
        return faults

    def _events_outlast_journal(self, found: dict[str, Found]) -> list[Fault]:
        if EVENTS not in found or JOURNAL not in found:
            return []
        events_ms, journal_ms = (_retention_ms(found[name]) for name in (EVENTS, JOURNAL))
        if events_ms >= journal_ms:
            return []
        return [
            Fault(
                self._full(EVENTS),
                f"keeps events for {_span(events_ms)}, shorter than the journal "
                f"({_span(journal_ms)}): events must be kept at least as long",
                {"retention.ms": found[JOURNAL].settings["retention.ms"]},
            )
        ]

    def _full(self, name: str) -> str:
        return f"{self._prefix}{name}"


def safety_settings(replicas: int) -> dict[str, str]:
    """Return what keeps acknowledged records: two in sync where there are replicas for it."""
    return {
        "min.insync.replicas": "2" if replicas > 2 else "1",
        "unclean.leader.election.enable": "false",
    }


def topic_faults(
    full: str, spec: TopicSpec, found: Found, partitions: int, promise: Promise
) -> list[Fault]:
    """List what is wrong with one topic that exists."""
    faults = []
    if found.partitions != partitions:
        few = "too few partitions" if found.partitions < partitions else "too many partitions"
        faults.append(
            Fault(
                full,
                f"{few}: {found.partitions}, and {partitions} are needed. They are fixed for "
                "the life of a topic, since teams would move: use another prefix "
                "(METERSTREAM_TOPIC_PREFIX), or delete the topic and all that is in it",
            )
        )
    for name, wanted in (spec.config() | safety_settings(found.replicas)).items():
        value = found.settings.get(name, "")
        if name == "retention.ms":
            faults += _retention_faults(full, spec, found, promise)
        elif not _suffices(name, value, wanted):
            faults.append(
                Fault(
                    full,
                    f"{name} is {value}, and must be {wanted}: `meterstream topics --repair`",
                    {name: wanted},
                )
            )
    return faults


def _suffices(name: str, value: str, wanted: str) -> bool:
    if name in {"max.message.bytes", "min.insync.replicas"}:
        return int(value or 0) >= int(wanted)
    if name == "cleanup.policy":
        return set(value.split(",")) == set(wanted.split(","))
    return value == wanted


def _retention_faults(full: str, spec: TopicSpec, found: Found, promise: Promise) -> list[Fault]:
    wanted_ms = spec.retention_ms if spec.retention_ms is not None else 0
    least_ms = promise.retention_ms if spec.name in {EVENTS, JOURNAL} else wanted_ms
    if _retention_ms(found) >= (float("inf") if least_ms < 0 else least_ms):
        return []
    value = "-1" if wanted_ms < 0 else str(max(wanted_ms, least_ms))
    return [
        Fault(
            full,
            f"retention.ms is {found.settings.get('retention.ms')} "
            f"({_span(_retention_ms(found))}), and must be at least "
            f"{_span(float('inf') if least_ms < 0 else least_ms)}: `meterstream topics --repair`",
            {"retention.ms": value},
        )
    ]


def _retention_ms(found: Found) -> float:
    value = int(found.settings.get("retention.ms", "-1"))
    return float("inf") if value < 0 else value


def _span(milliseconds: float) -> str:
    if milliseconds == float("inf"):
        return "for ever"
    hours = milliseconds / 3_600_000
    if hours >= 48:
        return f"{hours / 24:.3g} days"
    return "1 hour" if hours == 1 else f"{hours:.3g} hours"


def _result(future: "Future[T]", what: str) -> T:
    try:
        return future.result(ANSWER_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer"
        raise Unreachable(f"{what}: {reason}") from error
