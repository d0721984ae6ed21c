"""The Kafka client: how it is set up, and what its errors mean to a service."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from .exceptions import (
    AuthenticationFailed,
    BrokerProblem,
    BrokerUnreachable,
    InvalidSettings,
    NotAuthorised,
    UnknownTopic,
)
from .settings import KafkaSettings, PublisherSettings

HEADERS: Final[list[tuple[str, str | bytes | None]]] = [
    ("content-type", b"application/cloudevents+json; charset=UTF-8")
]
"""What CloudEvents asks of a Kafka message in structured mode."""

_CLIENT_LOGGER: Final = logging.getLogger("meterstream.producers.librdkafka")
_BATCH_BYTES: Final = 256 * 1024
"""Well below the least max.message.bytes in use, so that no batch is refused for its size."""
_CLIENT_BYTES_KIB: Final = 64 * 1024

REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
    }
)
"""Errors that lie in the message: the same message never fares better."""

_PURGED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})

_AUTHENTICATION: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)
_AUTHORISATION: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_NO_TOPIC: Final = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
    }
)


def make_producer(settings: PublisherSettings, on_error: Callable[[KafkaError], None]) -> Producer:
    """Return a client that keeps order and never gives a message up of its own accord.

    Raises InvalidSettings where librdkafka does not know a setting.

    Idempotent, acknowledged by all in-sync replicas, partitioned as Java clients do (murmur2 of
    the key). Without a timeout of its own, since the spool decides how long an event waits: so a
    broker that is away delays messages but never reorders or fails them.
    """
    config: dict[str, Any] = {
        "client.id": settings.name,
        "log_level": 2,  # what matters less arrives through error_cb, and is logged once
        **settings.kafka,
        "bootstrap.servers": settings.kafka_bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "message.timeout.ms": 0,
        "linger.ms": settings.linger_ms,
        "compression.type": settings.compression,
        "batch.size": _BATCH_BYTES,
        "queue.buffering.max.messages": settings.in_flight_max_events,
        "queue.buffering.max.kbytes": _CLIENT_BYTES_KIB,
        "error_cb": on_error,
    }
    try:
        return Producer(config, logger=_CLIENT_LOGGER)
    except KafkaException as error:
        raise InvalidSettings(f"the setting kafka: {error.args[0].str()}") from None


def is_fatal(error: KafkaError) -> bool:
    """Tell whether the client that this error comes from will never send again."""
    return bool(error.fatal()) or error.code() == KafkaError._FATAL


def tells_why(problem: BrokerProblem) -> bool:
    """Tell whether the problem is a cause, and not just that nothing arrives."""
    return type(problem) not in {BrokerProblem, BrokerUnreachable}


def is_purged(error: KafkaError) -> bool:
    """Tell whether the client gave the message back because it was asked to."""
    return error.code() in _PURGED


@dataclass(frozen=True, slots=True)
class Use:
    """What is done with a topic, in the words of an error."""

    doing: str
    right: str
    meanwhile: str


WRITING: Final = Use("writing to", "WRITE", "accepted events wait in the spool")
READING: Final = Use(
    "reading", "READ", "the gate decides by what it knows, and by gate_fail once that is too old"
)
READING_CATALOG: Final = Use(
    "reading",
    "READ",
    "the gate does not know which organisation a team is part of; where organisations have hard"
    " limits, gate_fail decides",
)


def explain(
    error: KafkaError, settings: KafkaSettings, use: Use = WRITING, topic: str | None = None
) -> BrokerProblem:
    """Return what `error` means, and what to do about it.

    It is about `topic`, or the one of the settings.
    """
    where = settings.kafka_bootstrap
    topic = topic or settings.topic
    code = error.code()
    said = error.str()
    waits = use.meanwhile
    if code in _AUTHENTICATION:
        return AuthenticationFailed(
            f"{where} does not accept the credentials: {said}; check sasl.* and security.protocol"
            f" in the setting kafka; {waits}"
        )
    if code in _AUTHORISATION:
        return NotAuthorised(
            f"{where} does not allow {use.doing} {topic}: {said}; grant {use.right} on"
            f" the topic to this user; {waits}"
        )
    if code in _NO_TOPIC:
        return UnknownTopic(
            f"{where} has no topic {topic}: create it with `meterstream topics`, or"
            f" set topic_prefix; {waits}"
        )
    if code in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}:
        return BrokerUnreachable(f"{where} does not answer: {said}; {waits}")
    if code == KafkaError._TIMED_OUT:
        return BrokerUnreachable(f"{where} does not answer in time: {said}; {waits}")
    return BrokerProblem(f"{where}: {said} ({error.name()}); {waits}")


def ask_for_topic(
    producer: Producer, settings: PublisherSettings, timeout_s: float
) -> BrokerProblem | None:
    """Return why the topic cannot be written to as far as its metadata tell, None if it can."""
    try:
        metadata = producer.list_topics(settings.topic, timeout=max(timeout_s, 0.001))
    except KafkaException as error:
        return explain(error.args[0], settings)
    fault = metadata.topics[settings.topic].error
    return explain(fault, settings) if fault is not None else None
