"""The rate card of the demonstration, and what its runs must cost by it: counted by the sender."""

import json
import logging
from typing import Any, Final

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Delivered

from meterstream.cli.connection import Connection
from meterstream.cli.errors import Unreachable
from meterstream.cli.traffic.messages import Kind, Message
from meterstream.schemas.catalog import (
    DEFAULT_CARD,
    PriceLine,
    RateCardPublished,
    RateCardPublishedData,
    catalog_key,
)
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import CATALOG

CARD: Final = RateCardPublishedData(
    name=DEFAULT_CARD,
    version=1,
    effective_from=from_us(0),
    prices=(
        PriceLine(
            run_micro=500,
            input_micro_per_1k=250_500,
            cached_micro_per_1k=25_000,
            output_micro_per_1k=1_250_750,
        ),
    ),
)
"""A quarter of a credit for 1,000 input tokens, one and a quarter for 1,000 output tokens."""

ANSWER_TIMEOUT_S: Final = 30


def publish_card(connection: Connection) -> None:
    """Write the rate card into the catalog. Writing it again changes nothing."""
    event = RateCardPublished(
        id="demo-card-1", source="urn:meterstream:demo", time=from_us(0), data=CARD
    )
    failures: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Delivered) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {"acks": "all", "enable.idempotence": "true", **connection.kafka()},
        logger=logging.getLogger("meterstream.kafka"),
    )
    producer.produce(
        connection.topic(CATALOG),
        key=catalog_key(event),
        value=event.model_dump_json(exclude_none=True),
        on_delivery=on_delivery,
    )
    if producer.flush(ANSWER_TIMEOUT_S) or failures:
        raise Unreachable("the rate card was not acknowledged by the broker")


def price_micro(message: Message) -> int:
    """Return what a message must be charged by the card, in micro-credits: 0 unless it counts."""
    if message.kind is not Kind.RUN:
        return 0
    run: dict[str, Any] = json.loads(message.value)["data"]
    if "credits_micro" in run:
        return int(run["credits_micro"])
    line = CARD.prices[0]
    cached, reasoning = int(run.get("cached_tokens", 0)), int(run.get("reasoning_tokens", 0))
    # Each component is rounded on its own, half up; reasoning costs what other output costs.
    components = (
        (int(run.get("input_tokens", 0)) - cached, line.input_micro_per_1k),
        (cached, line.cached_micro_per_1k or 0),
        (int(run.get("output_tokens", 0)) - reasoning, line.output_micro_per_1k),
        (reasoning, line.output_micro_per_1k),
    )
    return line.run_micro + sum((tokens * price + 500) // 1000 for tokens, price in components)
