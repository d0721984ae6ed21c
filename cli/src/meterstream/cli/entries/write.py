"""Writes entries to the control or catalog topic, and tells where the broker put them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from meterstream.cli.connection import Connection
from meterstream.cli.errors import Unreachable
from meterstream.cli.topic_reader import RIGHTS
from meterstream.schemas.catalog import CatalogEvent, catalog_key
from meterstream.schemas.control import ControlEvent, control_key
from meterstream.schemas.topics import CATALOG, CONTROL
from meterstream.streams.refusal import Refusal

SOURCE: Final = "/meterstream/cli"
"""The source of the events that commands write."""
ANSWER_TIMEOUT_S: Final = 30

_OnDelivery = Callable[[KafkaError | None, Delivered], None]


@dataclass(frozen=True, slots=True)
class Written:
    """One entry that the broker has acknowledged: of which topic, and where it stands."""

    topic: str
    partition: int
    offset: int


def write_control(connection: Connection, events: Sequence[ControlEvent]) -> list[Written]:
    """Write control entries, keyed by team, in this order; return where each of them stands."""
    return _write(connection, CONTROL, [(control_key(event), _bytes(event)) for event in events])


def write_catalog(connection: Connection, events: Sequence[CatalogEvent]) -> list[Written]:
    """Write catalog entries in this order; return where each of them stands."""
    return _write(connection, CATALOG, [(catalog_key(event), _bytes(event)) for event in events])


def _bytes(event: ControlEvent | CatalogEvent) -> bytes:
    return event.model_dump_json(exclude_none=True).encode()


def _write(
    connection: Connection, topic: str, entries: Sequence[tuple[str, bytes]]
) -> list[Written]:
    """Write and wait for every acknowledgement.

    Raises Unreachable where one fails: the message says how many are written, and writing the same
    once more changes nothing.
    """
    places: dict[int, Written] = {}
    failures: list[KafkaError] = []
    refusal = Refusal(connection.bootstrap)
    producer = Producer(
        {
            "acks": "all",
            "enable.idempotence": "true",
            "partitioner": "murmur2_random",
            "message.timeout.ms": str(ANSWER_TIMEOUT_S * 1000),
            **connection.kafka(),
            "error_cb": refusal.hear,
        },
        logger=logging.getLogger("meterstream.kafka"),
    )

    def noted(number: int) -> _OnDelivery:
        def on_delivery(error: KafkaError | None, message: Delivered) -> None:
            if error is None:
                places[number] = Written(topic, message.partition() or 0, message.offset() or 0)
            else:
                failures.append(error)

        return on_delivery

    for number, (key, value) in enumerate(entries):
        _produce(producer, connection.topic(topic), key, value, noted(number))
    producer.flush(ANSWER_TIMEOUT_S + 1)
    if len(places) < len(entries):
        said = failures[0].str() if failures else f"no answer within {ANSWER_TIMEOUT_S} s"
        may_not = bool(failures) and failures[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        raise _failure(
            connection.topic(topic),
            len(places),
            len(entries),
            refusal.or_else(said),
            may_not=may_not,
        )
    return [places[number] for number in range(len(entries))]


def _produce(
    producer: Producer, topic: str, key: str, value: bytes, on_delivery: _OnDelivery
) -> None:
    while True:
        try:
            producer.produce(topic, key=key, value=value, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            raise Unreachable(f"{topic}: {error.args[0].str()}") from error
        else:
            return


def _failure(topic: str, written: int, wanted: int, said: str, *, may_not: bool) -> Unreachable:
    done = f"{written} of {wanted} entries are written; run it again, they stay as they are"
    if not written:
        done = "nothing was written"
    if may_not:
        return Unreachable(f"{topic}: this user may not write to it, {done}. {RIGHTS}")
    return Unreachable(f"{topic}: {said}, {done}")
