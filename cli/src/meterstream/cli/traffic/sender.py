"""Sends messages and counts what the broker acknowledged: these are the numbers to compare with."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from meterstream.cli.errors import CheckFailed

from .messages import Kind, Message

DELIVERY_TIMEOUT_S: Final = 60
POLL_EVERY: Final = 500
QUEUE_MESSAGES_MAX: Final = 200_000


@dataclass(slots=True)
class Totals:
    """What the broker has acknowledged.

    `runs` are run events that are good, resends among them; `unique_runs` and the tokens are
    without resends: they are what must come out at the other end.
    """

    messages: int = 0
    runs: int = 0
    unique_runs: int = 0
    duplicates: int = 0
    invalid: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, message: Message) -> None:
        """Count one acknowledged message."""
        self.messages += 1
        if message.kind is Kind.INVALID:
            self.invalid += 1
            return
        self.runs += 1
        if message.kind is Kind.DUPLICATE:
            self.duplicates += 1
            return
        self.unique_runs += 1
        self.input_tokens += message.input_tokens
        self.output_tokens += message.output_tokens

    def as_dict(self) -> dict[str, int]:
        """Return the totals by name, for JSON."""
        return asdict(self)


def send(
    kafka: dict[str, str],
    topic: str,
    batch: Iterable[Message],
    *,
    due: Callable[[int, Message], float] | None = None,
    progress: Callable[[Totals], None] = lambda _: None,
) -> Totals:
    """Send messages in order, keyed by team, and return what was acknowledged.

    `due` gives the moment (time.monotonic, seconds) that a message, and its number, is sent at;
    without it they go as fast as the broker takes them. Raises CheckFailed if a message was not
    acknowledged: it says how many were, since a second run with the same seed sends the rest
    harmlessly.
    """
    totals = Totals()
    failures: list[KafkaError] = []
    producer = Producer(
        {
            "acks": "all",
            "enable.idempotence": "true",
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": "20",
            "queue.buffering.max.messages": str(QUEUE_MESSAGES_MAX),
            "message.timeout.ms": str(DELIVERY_TIMEOUT_S * 1000),
            **kafka,
        },
        logger=logging.getLogger("meterstream.kafka"),
    )

    def acknowledge(message: Message) -> Callable[[KafkaError | None, Delivered], None]:
        def on_delivery(error: KafkaError | None, _: Delivered) -> None:
            if error is None:
                totals.add(message)
            else:
                failures.append(error)

        return on_delivery

    try:
        for number, message in enumerate(batch):
            if due is not None:
                _wait_until(due(number, message), producer)
            if number % POLL_EVERY == 0:
                producer.poll(0)
                progress(totals)
            if failures:
                break
            _produce(producer, topic, message, acknowledge(message))
    finally:
        # After Ctrl-C too: what is on its way is waited for and counted.
        left = _flush(producer, lambda: progress(totals))
    if failures or left:
        reason = failures[0].str() if failures else f"no answer within {DELIVERY_TIMEOUT_S} s"
        raise CheckFailed(
            f"{len(failures) + left} messages were not acknowledged ({reason}), "
            f"{totals.messages} were: send them again with the same seed, those count once"
        )
    return totals


def _produce(
    producer: Producer,
    topic: str,
    message: Message,
    on_delivery: Callable[[KafkaError | None, Delivered], None],
) -> None:
    while True:
        try:
            producer.produce(topic, key=message.key, value=message.value, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)
        except KafkaException as error:
            raise CheckFailed(f"a message could not be sent: {error.args[0].str()}") from error
        else:
            return


def _wait_until(moment: float, producer: Producer) -> None:
    while (left_s := moment - time.monotonic()) > 0:
        producer.poll(min(left_s, 0.1))


def _flush(producer: Producer, progress: Callable[[], None]) -> int:
    """Wait for what is on its way, and return how many messages have no answer yet."""
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S
    while left := producer.flush(0.2):
        progress()
        if time.monotonic() > deadline:
            return left
    progress()
    return 0
