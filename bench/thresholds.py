"""How long an event takes from its producer's call to the threshold event that it caused."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from meterstream.schemas.control import LIMIT_SET
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import THRESHOLD_REACHED
from meterstream.schemas.times import parse_rfc3339
from meterstream.schemas.topics import CONTROL, EVENTS, JOURNAL, THRESHOLDS

from .machine import quantile
from .stack import PARTITIONS, Stack, service, stack
from .traffic import Sent, Shape, events, publish

WARM_UP_S = 15
MAKE_S = 100e-6
"""More than it takes to make an event."""
LIMITS_A_USER = 5
QUIET_S = 10.0
"""So long without another threshold event after the last event was sent, and none comes."""


def measure(data: Path, limits: int, rate: int, seconds: int, say: Any) -> dict[str, Any]:
    """Send `rate` events a second against `limits` limits of users; latencies in ms.

    The limits count runs, and are set so that each is reached once while the traffic lasts. What
    is measured ends where a consumer of committed data has the threshold event in its hands. The
    first seconds, in which services warm up, are not counted.
    """
    with stack(data, "bench-thresholds.", clickhouse=False, pinned=False) as running:
        running.set_up()
        shape = Shape(users=limits // LIMITS_A_USER)
        with (
            service(running, "publisher", core=None, settings={}),
            service(running, "meter", core=None, settings={}),
        ):
            _set(running, _limits(shape, rate * seconds // shape.users))
            say(f"thresholds: {rate:,} events a second for {seconds} s, {limits:,} limits")
            return _follow(running, shape, rate, seconds)


def _limits(shape: Shape, runs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield team and data of limits that lie between a tenth and nine tenths of a user's runs."""
    for user in range(shape.users):
        for number in range(LIMITS_A_USER):
            share = 0.1 + 0.8 * ((user % 100) / 100 + number) / LIMITS_A_USER
            team = f"team-{user % shape.teams:03d}"
            yield (
                team,
                {
                    "team_id": team,
                    "limit_id": f"user-{user}-{number}",
                    "version": 1,
                    "subject": "user",
                    "subject_id": f"user-{user:06d}",
                    "measure": "runs",
                    "window": "day" if number % 2 else "month",
                    "amount": max(1, round(runs * share)),
                    "alert_levels_permille": [1000],
                    "enforcement": "hard",
                },
            )


def _set(running: Stack, limits: Iterator[tuple[str, dict[str, Any]]]) -> None:
    """Set limits, and wait until the meter has taken all of them."""
    producer = Producer({"bootstrap.servers": running.bootstrap, "linger.ms": 50})
    for number, (team, data) in enumerate(limits):
        event = {
            "specversion": "1.0",
            "type": LIMIT_SET,
            "source": "/bench",
            "id": f"limit-{number}",
            "time": "2026-01-01T00:00:00Z",
            "data": data,
        }
        home = partition_of(team, PARTITIONS)
        producer.produce(running.topic(CONTROL), json.dumps(event), key=team, partition=home)
        producer.poll(0)
    if producer.flush(30):
        raise RuntimeError("the broker did not take the limits")
    _wait_for_quiet(running)


def _wait_for_quiet(running: Stack) -> None:
    """Wait until the journal grows no more than by what idle partitions write."""
    deadline = time.monotonic() + 120
    ends = running.ends(JOURNAL)
    while time.monotonic() < deadline:
        time.sleep(3.0)
        now = running.ends(JOURNAL)
        if min(now) > 1 and sum(now) - sum(ends) <= PARTITIONS:
            return
        ends = now
    raise RuntimeError("the meter did not take the limits within two minutes")


def _follow(running: Stack, shape: Shape, rate: int, seconds: int) -> dict[str, Any]:
    sent_at: dict[tuple[int, int], float] = {}
    crossed: list[tuple[int, int, float, float]] = []
    sent, done = Sent(), threading.Event()
    count = rate * seconds
    # Made beforehand: what makes the traffic shall not take time from what is measured.
    began = time.time() + count * MAKE_S
    made = list(events(shape, count, int(began * 1e6), seconds * 1_000_000, sent))
    time.sleep(max(0.0, began - time.time()))

    def consume() -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": running.bootstrap,
                "group.id": "bench-thresholds",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            }
        )
        topic = running.topic(THRESHOLDS)
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        heard = time.monotonic()
        while not done.is_set() or time.monotonic() - heard < QUIET_S:
            for message in consumer.consume(1_000, 0.05):
                at = time.time()
                event = json.loads(message.value() or b"{}")
                cause = event.get("data", {}).get("cause")
                if event.get("type") == THRESHOLD_REACHED and cause is not None:
                    heard = time.monotonic()
                    partition = message.partition()
                    assert partition is not None
                    decided = parse_rfc3339(event["time"]).timestamp()
                    crossed.append((partition, cause["offset"], decided, at))
        consumer.close()

    consumer = threading.Thread(target=consume)
    consumer.start()
    publish(
        running.bootstrap, running.topic(EVENTS), PARTITIONS, iter(made), sent, rate=rate,
        acknowledged=lambda partition, offset, at: sent_at.__setitem__((partition, offset), at),
    )  # fmt: skip
    took_s = time.time() - began
    done.set()
    consumer.join()
    measured = [
        (sent_at[partition, offset], decided, at)
        for partition, offset, decided, at in crossed
        if sent_at[partition, offset] > began + WARM_UP_S
    ]
    latencies = [(at - sent) * 1_000 for sent, _, at in measured]
    journal = [(decided - sent) * 1_000 for sent, decided, _ in measured]
    if not latencies:
        raise RuntimeError("no threshold event came after the first seconds")
    return {
        "rate": rate,
        "sent_a_second": round(count / took_s),
        "limits": shape.users * LIMITS_A_USER,
        "crossings": len(crossed),
        "measured": len(latencies),
        "p50_ms": round(quantile(latencies, 0.5)),
        "p99_ms": round(quantile(latencies, 0.99)),
        "max_ms": round(max(latencies)),
        "to_the_journal_p50_ms": round(quantile(journal, 0.5)),
        "to_the_journal_p99_ms": round(quantile(journal, 0.99)),
    }
