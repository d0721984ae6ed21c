"""The settings of the sink: METERSTREAM_* in the environment, checked at start."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from meterstream.schemas.topics import DEFAULT_PREFIX

from .errors import SinkError
from .refusals import Refusals

PREFIX: Final = "METERSTREAM_"

Feed = Literal["cells", "history", "catalog", "organisations"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
FEEDS: Final[tuple[Feed, ...]] = ("cells", "history", "catalog", "organisations")


class SettingsInvalid(SinkError, ValueError):
    """One or more settings cannot be used. The message names every one of them."""


class SinkSettings(BaseSettings):
    """What the sink needs to know."""

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

    clickhouse_url: str = Field("http://127.0.0.1:8123", pattern=r"^https?://[^@\s]+$")
    """Address of ClickHouse's HTTP interface, without user and password; https:// for TLS."""
    clickhouse_user: str = Field("default", min_length=1)
    """The user that writes the tables."""
    clickhouse_password: SecretStr = SecretStr("")
    """That user's password. It is never shown."""
    clickhouse_database: str = Field("meterstream", pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")
    """The database that `meterstream migrate` has set up."""
    clickhouse_cluster: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")
    """Name of the cluster whose replicas hold the tables; none on a single server."""

    sink_feeds: Annotated[tuple[Feed, ...], NoDecode] = FEEDS
    """What this process does, separated by commas: cells (usage), history (single runs), catalog
    (dimension tables), organisations (their limits). Leave history out where single runs are not
    wanted, or run it apart."""
    sink_group: str = Field("sink", min_length=1, max_length=100)
    """Consumer group of the sinks, after the topic prefix; each feed has its own: this, a hyphen
    and the feed. Another name for a sink that fills another ClickHouse from the same journal."""
    sink_flush_rows: int = Field(250_000, ge=1, le=5_000_000)
    """A flush comes after so many rows, or by bytes or time, whichever is first. More of them make
    larger inserts while the sink is behind, and take more memory."""
    sink_flush_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=1024 * 1024 * 1024)
    """The same in bytes of journal records. Lower it where memory is short."""
    sink_flush_ms: int = Field(300, ge=1, le=60_000)
    """The same in milliseconds: the longest that usage waits to be stored. Raise it for fewer and
    larger inserts."""
    sink_history_flush_ms: int = Field(1_000, ge=1, le=60_000)
    """The same delay in milliseconds for single runs, which can wait while usage is stored."""
    sink_idle_flush_ms: int = Field(2_000, ge=1, le=600_000)
    """How many milliseconds the clock alone may move on before its new value is stored."""
    metrics_host: str = "127.0.0.1"
    """Address that /metrics, /healthz and /readyz are served on. They have no password: another
    address than loopback only in a network that is closed."""
    sink_metrics_port: int = Field(9466, ge=0, le=65535)
    """Port of /metrics, /healthz and /readyz; 0 for any that is free."""
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = "INFO"
    """What is logged, on stderr: DEBUG, INFO, WARNING or ERROR. DEBUG is for looking into one
    problem."""

    @model_validator(mode="before")
    @classmethod
    def _split_feeds(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("sink_feeds"), str):
            names = [name.strip() for name in values["sink_feeds"].split(",") if name.strip()]
            return {**values, "sink_feeds": tuple(dict.fromkeys(names))}
        return values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.sink_feeds:
            raise ValueError(f"{PREFIX}SINK_FEEDS names no feed: use some of {', '.join(FEEDS)}")
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

    def group(self, feed: str) -> str:
        """Return the consumer group of a feed."""
        return f"{self.topic_prefix}{self.sink_group}-{feed}"

    def kafka_client(self) -> dict[str, Any]:
        """Return what all librdkafka clients are set up with."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "security.protocol": self.kafka_security_protocol,
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 2,  # what matters comes back as errors
            "error_cb": Refusals(self.kafka_bootstrap),
        }
        if self.kafka_security_protocol.startswith("SASL"):
            assert self.kafka_sasl_password is not None, "checked above"
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
            config["sasl.username"] = self.kafka_sasl_username
            config["sasl.password"] = self.kafka_sasl_password.get_secret_value()
        files = {
            "ssl.ca.location": self.kafka_ssl_ca_file,
            "ssl.certificate.location": self.kafka_ssl_certificate_file,
            "ssl.key.location": self.kafka_ssl_key_file,
        }
        config |= {key: str(path) for key, path in files.items() if path is not None}
        if self.kafka_ssl_key_password is not None:
            config["ssl.key.password"] = self.kafka_ssl_key_password.get_secret_value()
        return config


def load_settings(**given: Any) -> SinkSettings:
    """Return the settings; `given` ones win over the environment.

    Raises SettingsInvalid with every fault at once. Values are no part of its message, since one
    of them may be a secret.
    """
    try:
        return SinkSettings(**given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            text = fault["msg"].removeprefix("Value error, ")
            faults.append(f"  {name}: {text}" if fault["loc"] else f"  {text}")
        raise SettingsInvalid("These settings cannot be used:\n" + "\n".join(faults)) from None
