"""The slow count: what the events topic holds, read by a plain consumer and counted by the model.

It imports nothing of the meter or the sinks, so it can tell whether they are right.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterstream.schemas.catalog import RATE_CARD_PUBLISHED
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.rows import CELL_KEY, CELL_SUMS
from meterstream.schemas.topics import CATALOG, DEFAULT_PREFIX, EVENTS

from .model import Counted, Dimensions, Record, Rules, Usage, run_model

_POLL_S = 1.0
_DEADLINE_S = 120.0

Totals = dict[tuple[int, Dimensions], Usage]
"""Usage by the start of the minute (seconds since 1970) and dimensions, late events included."""


@dataclass(frozen=True)
class Log:
    """What one partition holds: records from `start` up to, not including, `end`."""

    partition: int
    start: int
    end: int
    records: tuple[Record, ...]


def read_topic(bootstrap: str, topic: str) -> list[Log]:
    """Return all committed records of a topic, by partition. Log times are the broker's."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "slow-count",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return [_read_partition(consumer, topic, partition) for partition in sorted(partitions)]
    finally:
        consumer.close()


def slow_count(
    bootstrap: str, rules: Rules, *, prefix: str = DEFAULT_PREFIX, now_us: int | None = None
) -> dict[int, Counted]:
    """Return what the meter must have counted of each partition of the events topic.

    Rate cards are taken from the catalog topic and hold from the first event on, from their own
    `effective_from`; `now_us` is the worker's time, by default this machine's.
    """
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    cards = list(rate_cards(bootstrap, prefix + CATALOG))
    return {
        log.partition: run_model(
            log.records,
            rules,
            log.partition,
            now_us=now_us,
            end=log.end,
            log_start=log.start,
            cards={0: cards},
        )
        for log in read_topic(bootstrap, prefix + EVENTS)
    }


def rate_cards(bootstrap: str, topic: str) -> Iterator[bytes]:
    """Yield the rate cards in the catalog topic; of equal ones the first."""
    seen: set[bytes] = set()
    for log in read_topic(bootstrap, topic):
        for record in log.records:
            try:
                event = parse_event(record.value, CATALOG)
            except InvalidEvent:
                continue
            card = event.model_dump_json(include={"data": {"name", "version"}}).encode()
            if getattr(event, "type", "") == RATE_CARD_PUBLISHED and card not in seen:
                seen.add(card)
                yield record.value or b""


def totals(counts: Iterable[Counted]) -> Totals:
    """Return the usage of all partitions by minute and dimensions, on time or late."""
    found: Totals = {}
    for counted in counts:
        for (_, start, dimensions), usage in counted.cells.items():
            found.setdefault((start, dimensions), Usage()).add(usage)
    return found


def stored_totals(client: Client, table: str = "usage_minutes") -> Totals:
    """Return the usage that ClickHouse holds by minute and dimensions, on time or late."""
    keys = [column.name for column in CELL_KEY[1:]]
    sums = [column.name for column in CELL_SUMS]
    query = (
        f"SELECT toUnixTimestamp(window_start), {', '.join(keys)},"
        f" {', '.join(f'sum({name})' for name in sums)},"
        " sumMap(latency_sketch), sumMap(first_token_sketch)"
        f" FROM {table} FINAL GROUP BY window_start, {', '.join(keys)}"
    )
    found: Totals = {}
    for start, *row in client.query(query).result_rows:
        dimensions = tuple(row[: len(keys)])
        amounts = dict(zip(sums, row[len(keys) : len(keys) + len(sums)], strict=True))
        latencies, first_tokens = (_counter(sketch) for sketch in row[-2:])
        found[start, dimensions] = Usage(
            **amounts, latency_sketch=latencies, first_token_sketch=first_tokens
        )
    return found


def _counter(sketch: Mapping[int, int]) -> Counter[int]:
    return Counter({bucket: count for bucket, count in sketch.items() if count > 0})


def _read_partition(consumer: Consumer, topic: str, partition: int) -> Log:
    where = TopicPartition(topic, partition)
    start, end = consumer.get_watermark_offsets(where, timeout=30)
    consumer.assign([TopicPartition(topic, partition, start)])
    records: list[Record] = []
    deadline = time.monotonic() + _DEADLINE_S
    while consumer.position([where])[0].offset < end:
        message = consumer.poll(_POLL_S)
        if message is not None:
            if _ends(message):
                break
            records.append(_record(message))
        elif time.monotonic() > deadline:
            raise TimeoutError(f"{topic} {partition}: {len(records)} records of {end - start} came")
    consumer.unassign()
    kept = tuple(record for record in records if record.offset < end)
    return Log(partition, start, end, kept)


def _ends(message: Message) -> bool:
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    raise KafkaException(error)


def _record(message: Message) -> Record:
    offset, (_, log_time_ms) = message.offset(), message.timestamp()
    assert offset is not None
    return Record(offset, log_time_ms * 1000, message.value())
