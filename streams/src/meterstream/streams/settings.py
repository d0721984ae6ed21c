"""The settings of the meter and the publisher: METERSTREAM_* in the environment."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from meterstream.schemas import topics as names
from meterstream.schemas.journal.header import MAX_GRACE_SECONDS
from meterstream.schemas.thresholds import Owners
from meterstream.schemas.topics import DEFAULT_PREFIX
from meterstream.schemas.variables import help_lines, variables_of

PREFIX: Final = "METERSTREAM_"

Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SettingsInvalid(ValueError):
    """One or more settings cannot be used. The message names every one of them."""


class KafkaSettings(BaseSettings):
    """How to reach Kafka, and which topics are ours."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    kafka_bootstrap: str = Field("127.0.0.1:9092", min_length=3)
    """Brokers to begin with, host:port, separated by commas. Name two or three of a cluster."""
    topic_prefix: str = Field(DEFAULT_PREFIX, max_length=100, pattern=r"^[A-Za-z0-9._-]*$")
    """What the names of all topics and consumer groups begin with. All services of one pipeline
    have the same; two pipelines on one Kafka have different ones."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as their listener
    asks for. Across a network use one with SSL."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How user and password are proved, with SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    kafka_sasl_username: str | None = None
    """The user, with SASL."""
    kafka_sasl_password: SecretStr | None = None
    """The user's password, with SASL. It is never shown."""
    kafka_ssl_ca_file: Path | None = None
    """PEM file of the authorities that may have signed the brokers' certificates, with SSL. Without
    it those that the system trusts."""
    kafka_ssl_certificate_file: Path | None = None
    """PEM file of this client's certificate, where brokers ask for one."""
    kafka_ssl_key_file: Path | None = None
    """PEM file of the key of that certificate."""
    kafka_ssl_key_password: SecretStr | None = None
    """The password of that key, if it has one. It is never shown."""
    metrics_host: str = "127.0.0.1"
    """Address that /metrics, /healthz and /readyz are served on. They have no password: another
    address than loopback only in a network that is closed."""
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = "INFO"
    """What is logged, on stderr: DEBUG, INFO, WARNING or ERROR. DEBUG is for looking into one
    problem."""

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"{PREFIX}KAFKA_SASL_USERNAME and {PREFIX}KAFKA_SASL_PASSWORD are needed with"
                f" {self.kafka_security_protocol}"
            )
        for name in ("ca", "certificate", "key"):
            path: Path | None = getattr(self, f"kafka_ssl_{name}_file")
            if path is not None and not path.is_file():
                raise ValueError(f"{PREFIX}KAFKA_SSL_{name.upper()}_FILE: no file {path}")
        return self

    def topic(self, name: str) -> str:
        """Return the full name of the topic that `schemas.topics` calls `name`."""
        return self.topic_prefix + name

    def client(self, **options: Any) -> dict[str, Any]:
        """Return the configuration of a librdkafka client, with `options` (dots as `_`) on top."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "security.protocol": self.kafka_security_protocol,
            "broker.address.family": "any",
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 2,  # what matters comes back as errors
        }
        if self.kafka_security_protocol.startswith("SASL"):
            assert self.kafka_sasl_password is not None
            settings["sasl.mechanism"] = self.kafka_sasl_mechanism
            settings["sasl.username"] = self.kafka_sasl_username
            settings["sasl.password"] = self.kafka_sasl_password.get_secret_value()
        files = {
            "ssl.ca.location": self.kafka_ssl_ca_file,
            "ssl.certificate.location": self.kafka_ssl_certificate_file,
            "ssl.key.location": self.kafka_ssl_key_file,
        }
        settings |= {key: str(path) for key, path in files.items() if path is not None}
        if self.kafka_ssl_key_password is not None:
            settings["ssl.key.password"] = self.kafka_ssl_key_password.get_secret_value()
        return settings | {key.replace("_", "."): value for key, value in options.items()}


_OF_ORGANISATIONS: Final = {
    names.EVENTS: names.ORG_USAGE,
    names.JOURNAL: names.ORG_JOURNAL,
    names.SNAPSHOTS: names.ORG_SNAPSHOTS,
}


class StageSettings(KafkaSettings):
    """What is metered: usage by team, or what teams used by their organisations."""

    stage: Owners = "teams"
    """Whose limits are decided: those of teams, from the events, or those of organisations, from
    what teams used. The option --organisations sets it."""

    def topic(self, name: str) -> str:
        """Return the full name of a topic; the one that has its place in this stage."""
        found = _OF_ORGANISATIONS.get(name, name) if self.stage == "organisations" else name
        return super().topic(found)

    def group_id(self, group: str) -> str:
        """Return the full name of a consumer group: each stage has groups of its own."""
        return self.topic_prefix + ("org-" if self.stage == "organisations" else "") + group


class MeterSettings(StageSettings):
    """What the meter needs to know."""

    group: str = Field("meter", min_length=1, max_length=100)
    """Consumer group of the meter's workers, after the topic prefix."""
    grace_seconds: int = Field(600, ge=0, le=MAX_GRACE_SECONDS)
    """How long after its end a minute stays open for events that come late. Each journal record
    tells the grace of its writer, and readers close minutes by that. A longer one holds more cells
    in memory and closes windows later; events that come later still are counted as late rows."""
    horizon_hours: int = Field(24, ge=1, le=35 * 24)
    """How far back duplicates are recognised; events that are older go to the dead letters. Longer
    than the longest time that producers may be cut off; memory grows with it."""
    dedup_bytes: int = Field(512 * 1024 * 1024, ge=1024 * 1024)
    """Memory in bytes for deduplication ids in one process; above it an alarm is raised, and
    nothing else happens. Fit it to the machine."""
    batch_max_events: int = Field(20_000, ge=1, le=1_000_000)
    """At how many events a batch of one partition is closed while the meter is behind. Lower it
    where memory is short."""
    batch_max_bytes: int = Field(16 * 1024 * 1024, ge=128 * 1024, le=1024 * 1024 * 1024)
    """At how many bytes a batch of one partition is closed while the meter is behind. Lower it
    where events are large and memory is short."""
    batch_linger_ms: int = Field(200, ge=0, le=10_000)
    """How many milliseconds a small batch waits for more events when the meter is not behind. Less
    is fresher and makes more and smaller journal records."""
    fetch_max_bytes: int = Field(8 * 1024 * 1024, ge=128 * 1024, le=256 * 1024 * 1024)
    """The most bytes that one fetch brings for one partition. Raise it where brokers are far
    away."""
    idle_seconds: Seconds = 5.0
    """After how many seconds without events a partition's clock is moved by an idle record. Less
    closes windows sooner where few events come. Those who enforce limits learn from the clock how
    old their knowledge is: leave it well below the age that they accept."""
    snapshot_bytes: int = Field(128 * 1024 * 1024, ge=1024)
    """A snapshot is taken after this many bytes of journal, or by time, what comes first. Less
    makes restores shorter and the snapshots topic busier."""
    snapshot_seconds: Seconds = 300.0
    """The same in seconds."""
    catalog_max_age_seconds: Seconds = 240.0
    """No step is computed if the catalog was last seen complete longer ago than this, for a rate
    card could be missing. Leave it below 5 minutes."""
    session_timeout_seconds: float = Field(10.0, ge=6, le=300)
    """After how many seconds without a heartbeat others take the partitions over; brokers ask for
    at least 6. Raise it where processes are often paused for longer."""
    journal_timeout_seconds: float = Field(30.0, ge=1, le=600)
    """How many seconds to wait for the acknowledgement of a journal record before its fate is
    unknown and the state is restored."""
    journal_max_bytes: int = Field(16 * 1024 * 1024 - 64 * 1024, ge=64 * 1024)
    """The largest value of a journal or snapshot record in bytes, just below the topics'
    max.message.bytes. Lower it where brokers take no such messages."""
    meter_metrics_port: Port = 9464
    """Port of /metrics, /healthz and /readyz; 0 for any that is free. Each meter on a machine has
    its own."""

    @model_validator(mode="after")
    def _horizon_holds_the_grace(self) -> Self:
        if self.horizon_hours * 3600 < self.grace_seconds + 60:
            raise ValueError(
                f"{PREFIX}HORIZON_HOURS must be longer than {PREFIX}GRACE_SECONDS and a minute"
            )
        return self


class PublisherSettings(StageSettings):
    """What the publisher needs to know."""

    publisher_group: str = Field("publisher", min_length=1, max_length=100)
    """Consumer group of the publishers, after the topic prefix; their transactional ids begin with
    it."""
    publisher_max_records: int = Field(100, ge=1, le=10_000)
    """The most journal records that one transaction waits for. More of them catch up faster."""
    publisher_interval_ms: int = Field(250, ge=1, le=5_000)
    """The least time between two transactions of a partition, in milliseconds: so often the state
    of a limit is published at most. What reaches a level, blocks or resets does not wait for it."""
    publisher_metrics_port: Port = 9465
    """Port of /metrics, /healthz and /readyz; 0 for any that is free."""


def epilog(kind: type[BaseSettings]) -> str:
    """Return the end of a service's --help: every variable that sets it up."""
    lines = help_lines(variables_of(kind, PREFIX))
    return "\n".join(["These variables set it up (defaults in brackets):", "", *lines])


def add_stage(parser: ArgumentParser) -> None:
    """Add the option that says whose limits are decided."""
    parser.add_argument(
        "--organisations",
        action="store_true",
        help="the second stage: limits of organisations, from what their teams used",
    )


def stage_of(options: Namespace) -> dict[str, str]:
    """Return the setting that the option gives; none where it was left out."""
    return {"stage": "organisations"} if options.organisations else {}


Settings = TypeVar("Settings", bound=BaseSettings)


def load(kind: type[Settings], **given: Any) -> Settings:
    """Return the settings of `kind`; `given` ones win over the environment.

    Raises SettingsInvalid with every fault at once. Values are never part of the message, since
    one of them may be a secret.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            text = fault["msg"].removeprefix("Value error, ")
            faults.append(f"  {name}: {text}" if fault["loc"] else f"  {text}")
        raise SettingsInvalid("These settings cannot be used:\n" + "\n".join(faults)) from None
