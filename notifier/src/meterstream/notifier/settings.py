"""The settings of the notifier: METERSTREAM_* in the environment, checked at start."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from meterstream.schemas.topics import DEFAULT_PREFIX

from .backoff import Backoff
from .errors import SettingsInvalid

PREFIX: Final = "METERSTREAM_"

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]


class NotifierSettings(BaseSettings):
    """What the notifier needs to know."""

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

    notifier_file: Path | None = None
    """YAML file of destinations and routes. It has no secrets: it names the variables or files that
    hold them. The notifier does not start without it."""
    notifier_group: str = Field("notifier", min_length=1, max_length=100)
    """Consumer group of the notifiers, after the topic prefix; each destination has its own: this,
    a hyphen and its name."""
    notifier_timeout_seconds: float = Field(15.0, gt=0, le=120)
    """How many seconds one attempt may take as a whole."""
    notifier_attempts: int = Field(20, ge=1, le=1_000)
    """After how many failed attempts a notification is given up and put on the dead-letter list."""
    notifier_retry_seconds: Seconds = 3_600.0
    """The same in seconds since its first attempt, whichever comes first. Until then the events
    behind it in its partition wait, for this destination."""
    notifier_pause_seconds: Seconds = 1.0
    """The pause after the first failed attempt in seconds; each further one is twice as long, less
    up to a half by chance."""
    notifier_longest_pause_seconds: Seconds = 300.0
    """The longest such pause in seconds."""
    notifier_hold_seconds: Seconds = 900.0
    """For how many seconds a destination is left alone that answers with 410, and the longest that
    one may ask for with Retry-After."""
    notifier_session_seconds: float = Field(10.0, ge=6, le=300)
    """After how many seconds without a heartbeat another notifier takes over; brokers ask for at
    least 6."""
    notifier_instance: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this process among the notifiers, the same after a restart and no other's: then it
    goes on at once when it is started again, where others would wait for the time above. Leave it
    out where processes have no lasting names."""
    metrics_host: str = "127.0.0.1"
    """Address that /metrics, /healthz and /readyz are served on. They have no password: another
    address than loopback only in a network that is closed."""
    notifier_metrics_port: int = Field(9467, ge=0, le=65535)
    """Port of /metrics, /healthz and /readyz; 0 for any that is free."""
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = "INFO"
    """What is logged, on stderr: DEBUG, INFO, WARNING or ERROR. DEBUG is for looking into one
    problem."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
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

    @property
    def backoff(self) -> Backoff:
        """When to try again, and when to give up."""
        return Backoff(
            attempts=self.notifier_attempts,
            retry_s=self.notifier_retry_seconds,
            first_pause_s=self.notifier_pause_seconds,
            longest_pause_s=self.notifier_longest_pause_seconds,
            hold_s=self.notifier_hold_seconds,
        )

    def file(self) -> Path:
        """Return where destinations and routes are; SettingsInvalid if that is not told."""
        if self.notifier_file is None:
            raise SettingsInvalid(
                f"{PREFIX}NOTIFIER_FILE is not set: it names the YAML file of destinations and"
                " routes"
            )
        return self.notifier_file

    def topic(self, name: str) -> str:
        """Return the full name of the topic that `schemas.topics` calls `name`."""
        return self.topic_prefix + name

    def group(self, destination: str) -> str:
        """Return the consumer group of a destination."""
        return f"{self.topic_prefix}{self.notifier_group}-{destination}"

    def client(self, **options: Any) -> dict[str, Any]:
        """Return the configuration of a librdkafka client, with `options` (dots as `_`) on top."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "security.protocol": self.kafka_security_protocol,
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 2,  # what matters comes back as errors
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
        return config | {key.replace("_", "."): value for key, value in options.items()}


def load_settings(**given: Any) -> NotifierSettings:
    """Return the settings; `given` ones win over the environment.

    Raises SettingsInvalid with every fault at once. Values are no part of its message, since one
    of them may be a secret.
    """
    try:
        return NotifierSettings(**given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            name = PREFIX + "_".join(str(part) for part in fault["loc"]).upper()
            text = fault["msg"].removeprefix("Value error, ")
            faults.append(f"  {name}: {text}" if fault["loc"] else f"  {text}")
        raise SettingsInvalid("These settings cannot be used:\n" + "\n".join(faults)) from None
