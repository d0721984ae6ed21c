"""The settings of publishers: validated at once, with every fault named, secrets never shown."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from meterstream.schemas.fields import SourceUri
from meterstream.schemas.topics import DEFAULT_PREFIX, EVENTS

from .exceptions import InvalidSettings

Durability = Literal["queued", "written", "synced"]
"""What an event has reached when `publish` returns.

`queued`: this process's memory; a kill -9 within the next few milliseconds loses it.
`written`: the spool file; it outlives the process, however that ends.
`synced`: the disk; it outlives a power cut too. Costs one fsync for each group of events.
"""

_MIB: Final = 1 << 20
_ENVIRONMENT: Final = "METERSTREAM_"
_KAFKA: Final = "kafka_"

_GUARANTEES: Final = frozenset(
    {
        "acks",
        "batch.size",
        "bootstrap.servers",
        "compression.type",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "linger.ms",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.broker.list",
        "partitioner",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "request.required.acks",
        "retries",
        "transactional.id",
    }
)
"""Settings of librdkafka that order, durability and partitions depend on, or that have a field."""


class KafkaSettings(BaseModel):
    """What everything in the SDK is told that talks to Kafka."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    _of: ClassVar[str]
    """Whose settings they are, for error messages."""
    _topic: ClassVar[str]

    kafka_bootstrap: Annotated[str, Field(min_length=3)]
    """Brokers to begin with: `host:port`, separated by commas."""
    topic_prefix: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")] = (
        DEFAULT_PREFIX
    )
    """What the names of all topics begin with."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "meterstream"
    """Names this publisher or gate in metrics, logs and to the broker."""
    kafka: Annotated[Mapping[str, str | int | bool], Field(repr=False)] = {}
    """Further settings of librdkafka: TLS, SASL and the like."""

    @property
    def topic(self) -> str:
        """The topic that is written or read."""
        return self.topic_prefix + self._topic

    @classmethod
    def make(cls, **values: object) -> Self:
        """Return validated settings; InvalidSettings names every fault at once."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = [
                f"{cls._named(fault['loc'])}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            ]
            raise InvalidSettings(
                f"the {cls._of}'s settings cannot be used:\n  " + "\n  ".join(faults)
            ) from None

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **values: object
    ) -> Self:
        """Return settings from `METERSTREAM_*`; `values` given here win.

        `METERSTREAM_SPOOL_DIR` sets `spool_dir`, and so on for each field;
        `METERSTREAM_KAFKA_SASL_USERNAME` sets librdkafka's `sasl.username`, and
        `METERSTREAM_KAFKA_SSL_CA_FILE` its `ssl.ca.location`. The names are those of the other
        Meterstream services, and variables that only they know are left alone.
        """
        environment = os.environ if environment is None else environment
        found: dict[str, object] = {}
        kafka: dict[str, object] = {}
        for variable, value in environment.items():
            if not variable.startswith(_ENVIRONMENT):
                continue
            name = variable.removeprefix(_ENVIRONMENT).lower()
            if name in cls.model_fields and name != "kafka":
                found[name] = value
            elif name.startswith(_KAFKA):
                setting = name.removeprefix(_KAFKA).replace("_", ".")
                if setting.startswith("ssl.") and setting.endswith(".file"):
                    setting = setting.removesuffix("file") + "location"
                kafka[setting] = value
        if kafka:
            found["kafka"] = kafka
        return cls.make(**(found | values))

    @classmethod
    def _named(cls, path: tuple[int | str, ...]) -> str:
        """Return a setting's name, with the variable that sets it."""
        name = ".".join(str(part) for part in path)
        known = name in cls.model_fields and name != "kafka"
        return f"{name} ({_ENVIRONMENT}{name.upper()})" if known else name


class PublisherSettings(KafkaSettings):
    """Everything a publisher can be told. Sizes in bytes, times with their unit in the name."""

    _of: ClassVar[str] = "publisher"
    _topic: ClassVar[str] = EVENTS

    spool_dir: Path
    """Where accepted events wait. One directory a service, on a disk that outlives the process;
    its processes share it, each with a slot of its own."""
    source: SourceUri | None = None
    """The CloudEvents source of events that name none, such as `/services/chat`."""

    durability: Durability = "written"
    publish_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 50
    """The longest that `publish` may block its caller."""
    close_timeout_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000
    """How long `close` waits for acknowledgements; what is left stays in the spool."""

    queue_max_bytes: Annotated[int, Field(ge=_MIB, le=1 << 30)] = 32 * _MIB
    """Memory for events that are not yet written to the spool."""
    spool_max_bytes: Annotated[int, Field(ge=_MIB, le=1 << 40)] = 1 << 30
    """Disk for events that are not yet acknowledged, of this process and those it adopted."""
    spool_max_age_s: Annotated[int, Field(ge=1, le=35 * 86_400)] = 20 * 3600
    """How long an event may wait in this process before new ones are refused. Keep it below the
    meter's deduplication horizon (24 h): older events go to the dead-letter queue."""
    in_flight_max_events: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Events that are handed to the Kafka client and not yet acknowledged."""

    linger_ms: Annotated[int, Field(ge=0, le=10_000)] = 5
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"

    @field_validator("kafka")
    @classmethod
    def _keep_the_guarantees(
        cls, settings: Mapping[str, str | int | bool]
    ) -> Mapping[str, str | int | bool]:
        if broken := sorted(_GUARANTEES.intersection(settings)):
            raise ValueError(f"{', '.join(broken)}: fixed by the SDK, or set by a field of its own")
        return settings
