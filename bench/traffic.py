"""The events that the benchmarks meter: their shape, and how they come into the topic."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import Producer

from meterstream.schemas.partitions import partition_of

SEED = 20_231_116


@dataclass(frozen=True, slots=True)
class Shape:
    """Who runs what.

    In the easy case a user works with 2 agents, and an agent with one model; in the hard case
    every combination is equally likely.
    """

    teams: int = 50
    users: int = 2_000
    agents: int = 100
    models: int = 6
    hard: bool = False
    duplicates: float = 0.02
    invalid: float = 0.005


@dataclass(slots=True)
class Sent:
    """What was handed to the broker and acknowledged, counted by the sender."""

    events: int = 0
    runs: int = 0
    duplicates: int = 0
    invalid: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    bytes: int = 0
    failed: int = 0
    by_partition: Counter[int] = field(default_factory=Counter)


def _timestamp(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def events(
    shape: Shape, count: int, start_us: int, span_us: int, sent: Sent, seed: int = SEED
) -> Iterator[tuple[str, bytes]]:
    """Yield `count` (team, value) pairs with event times spread over `span_us`; count into `sent`.

    Resends repeat one of the last events byte for byte; invalid ones name negative tokens.
    """
    rng = random.Random(seed)
    recent: list[tuple[str, bytes]] = []
    for i in range(count):
        draw = rng.random()
        if draw < shape.duplicates and recent:
            sent.duplicates += 1
            yield recent[rng.randrange(len(recent))]
            continue
        user = rng.randrange(shape.users)
        team = f"team-{user % shape.teams:03d}"
        agent = (
            rng.randrange(shape.agents)
            if shape.hard
            else (user * 7 + rng.randrange(2)) % shape.agents
        )
        model = rng.randrange(shape.models) if shape.hard else agent % shape.models
        tokens_in, tokens_out = rng.randrange(50, 4_000), rng.randrange(10, 1_300)
        latency_us = int(rng.lognormvariate(6.5, 0.8) * 1_000)
        at_us = start_us + span_us * i // count
        invalid = draw > 1 - shape.invalid
        value = (
            f'{{"specversion":"1.0","type":"meterstream.run.completed.v1","source":"/chat",'
            f'"id":"{rng.getrandbits(80):020x}","time":"{_timestamp(at_us)}","data":{{'
            f'"team_id":"{team}","user_id":"user-{user:06d}","agent_id":"agent-{agent:03d}",'
            f'"model":"model-{model}","run_id":"run-{i:09d}","operation":"agent_run",'
            f'"started_at":"{_timestamp(at_us - latency_us)}","status":"completed",'
            f'"input_tokens":{-1 if invalid else tokens_in},"output_tokens":{tokens_out},'
            f'"time_to_first_token_us":{latency_us // 4}}}}}'
        ).encode()
        if invalid:
            sent.invalid += 1
        else:
            sent.runs += 1
            sent.input_tokens += tokens_in
            sent.output_tokens += tokens_out
            if len(recent) < 10_000:
                recent.append((team, value))
            else:
                recent[i % 10_000] = (team, value)
        yield team, value


def told(
    source: Iterator[tuple[str, bytes]], tell: Callable[[int], None]
) -> Iterator[tuple[str, bytes]]:
    """Yield the events, and tell after every 100,000 of them how many there were."""
    for i, event in enumerate(source):
        if i and i % 100_000 == 0:
            tell(i)
        yield event


def publish(
    bootstrap: str,
    topic: str,
    partitions: int,
    source: Iterator[tuple[str, bytes]],
    sent: Sent,
    *,
    rate: float | None = None,
    log_time_ms: Callable[[int], int] | None = None,
    acknowledged: Callable[[int, int, float], None] | None = None,
) -> None:
    """Send events, at `rate` a second or as fast as the broker takes them, and wait for all acks.

    `acknowledged(partition, offset, sent_at)` is called with the sender's own clock.
    `log_time_ms` tells the timestamp of each record, for a topic that keeps it.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5 if rate else 50,
            "queue.buffering.max.messages": 500_000,
            "batch.size": 1_000_000,
        }
    )
    homes: dict[str, int] = {}
    # A hundred bursts a second: waiting for each event would take more time than sending it.
    burst = max(1, round((rate or 0) / 100))
    began = time.monotonic()

    def report(sent_at: float):  # type: ignore[no-untyped-def]
        def done(error: object, message: object) -> None:
            if error is not None:
                sent.failed += 1
            elif acknowledged is not None:
                acknowledged(message.partition(), message.offset(), sent_at)  # type: ignore[attr-defined]

        return done

    def failed(error: object, _message: object) -> None:
        if error is not None:
            sent.failed += 1

    for i, (team, value) in enumerate(source):
        home = homes.get(team)
        if home is None:
            home = homes[team] = partition_of(team, partitions)
        if rate is not None and i % burst == 0:
            due = began + i / rate
            while (now := time.monotonic()) < due:
                producer.poll(due - now)
        callback = failed if acknowledged is None else report(time.time())
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    key=team,
                    partition=home,
                    on_delivery=callback,
                    timestamp=0 if log_time_ms is None else log_time_ms(i),
                )
                break
            except BufferError:
                producer.poll(0.05)
        sent.events += 1
        sent.bytes += len(value)
        sent.by_partition[home] += 1
        if i % 1_000 == 0:
            producer.poll(0)
    producer.flush()
    if sent.failed:
        raise RuntimeError(f"the broker refused {sent.failed} events")
