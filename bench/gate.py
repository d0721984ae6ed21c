"""How long a gate takes to load the topic, and to answer while states change all the time."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry

from meterstream.producers import Amounts, GateSettings, LimitGate
from meterstream.schemas.partitions import partition_of
from meterstream.schemas.thresholds import Owners, heartbeat_key
from meterstream.schemas.topics import CATALOG, LIMIT_STATES

from .machine import quantile
from .stack import Stack, stack

PARTITIONS = 12
LIMITS_A_TEAM = 100
KINDS = ("user", "agent", "project", "feature")
PREFIX = "bench-gate."
TOPIC_ID = "5b8f0d7c-4c5e-4a2f-9b8e-0f6f1f0a9d11"
SETTLED_OFFSET = 1 << 40
ORGANISATIONS = ("department", "division", "group")
"""Each is part of the next one, and all teams are part of the first."""


def measure(data: Path, limits: int, updates: int, seconds: int, say: Any) -> dict[str, Any]:
    """Load `limits` limits, then check for `seconds` while `updates` states a second change.

    Each team has two limits of its own, the others are of a user, agent, project or feature: a
    check has six that apply. In the end all teams are below three organisations with a limit each,
    so nine apply (`below_organisations`). The broker and whoever writes states have the first core.
    Times in microseconds, in a loop that does nothing else; loading in seconds, from the making of
    the gate.
    """
    with stack(data, PREFIX, clickhouse=False) as running:
        topic = running.topic(LIMIT_STATES)
        admin = AdminClient({"bootstrap.servers": running.bootstrap})
        catalog = NewTopic(running.topic(CATALOG), 1, 1, config={"cleanup.policy": "compact"})
        admin.create_topics([catalog])[catalog.topic].result(30)
        new = NewTopic(topic, PARTITIONS, 1, config={"cleanup.policy": "compact"})
        admin.create_topics([new])[topic].result(30)
        say(f"gate: writing {limits:,} limits")
        _write(running.bootstrap, topic, (_state(n, 1) for n in range(limits)))
        _beat(running.bootstrap, topic, 1)
        own = psutil.Process()
        cores = own.cpu_affinity()
        own.cpu_affinity(cores[1:] or cores)
        try:
            before = own.memory_info().rss
            began = time.perf_counter()
            with LimitGate(
                GateSettings.make(kafka_bootstrap=running.bootstrap, topic_prefix=PREFIX),
                registry=CollectorRegistry(),
            ) as gate:
                gate.wait_ready(120)
                load_seconds = time.perf_counter() - began
                grown = own.memory_info().rss - before
                say(f"gate: loaded in {load_seconds:.2f} s; checking for {seconds} s")
                found = {
                    "limits": limits,
                    "load_seconds": round(load_seconds, 2),
                    "bytes_a_limit": grown // limits,
                    "quiet": _checks(gate, limits, seconds),
                }
                with _updating(running, topic, limits, updates):
                    seen = _states_taken(gate)
                    found["updated"] = _checks(gate, limits, seconds)
                    found["updates_per_second"] = round((_states_taken(gate) - seen) / seconds)
                found["reserve_and_settle"] = _reservations(gate, limits)
                _organise(running, topic, limits)
                _wait_for_organisations(gate, limits)
                found["below_organisations"] = _checks(gate, limits, seconds)
        finally:
            own.cpu_affinity(cores)
        return found


def _checks(gate: LimitGate, limits: int, seconds: int) -> dict[str, float]:
    asked = _asked(limits)
    assert {len(gate.check(*one).limits) for one in asked} <= {6, 6 + len(ORGANISATIONS)}
    took: list[int] = []
    clock, check = time.perf_counter_ns, gate.check
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in asked:
            start = clock()
            check(*one)
            took.append(clock() - start)
    return _quantiles(took)


def _reservations(gate: LimitGate, limits: int) -> dict[str, float]:
    amounts = Amounts(runs=1, tokens=10, credits_micro=5)
    took: list[int] = []
    for one in _asked(limits):
        start = time.perf_counter_ns()
        gate.reserve(amounts, *one).settle(amounts, SETTLED_OFFSET)
        took.append(time.perf_counter_ns() - start)
    return _quantiles(took)


def _quantiles(took_ns: list[int]) -> dict[str, float]:
    return {
        "count": len(took_ns),
        "p50_us": round(quantile(took_ns, 0.5) / 1e3, 2),
        "p99_us": round(quantile(took_ns, 0.99) / 1e3, 2),
        "p999_us": round(quantile(took_ns, 0.999) / 1e3, 2),
    }


def _asked(limits: int, count: int = 5_000) -> list[tuple[str, ...]]:
    chance = random.Random(1)
    each = (LIMITS_A_TEAM - 2) // len(KINDS)
    return [
        (
            f"team-{chance.randrange(limits // LIMITS_A_TEAM)}",
            *(f"{kind}-{chance.randrange(each)}" for kind in KINDS),
        )
        for _ in range(count)
    ]


def _states_taken(gate: LimitGate) -> int:
    """Return how many updates were taken: each one adds 1 to what is used of a limit."""
    return sum(cell.state.used for cell in gate._known.index.cells.values())


@contextmanager
def _updating(running: Stack, topic: str, limits: int, rate: int) -> Iterator[None]:
    context = get_context("spawn")
    ready, stop = context.Event(), context.Event()
    writer = context.Process(
        target=_update, args=(running.bootstrap, topic, limits, rate, ready, stop)
    )
    writer.start()
    try:
        ready.wait(60)
        yield
    finally:
        stop.set()
        writer.join(30)


def _update(
    bootstrap: str, topic: str, limits: int, rate: int, ready: Any, stop: Any
) -> None:  # pragma: no cover - another process
    """Change `rate` states a second, a hundredth of them each hundredth of a second."""
    psutil.Process().cpu_affinity([0])
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    chance = random.Random(2)
    used = [0] * limits
    order, due, beat_at = 1, time.monotonic(), 0.0
    while not stop.is_set():
        order += 1
        for _ in range(rate // 100):
            number = chance.randrange(limits)
            used[number] += 1
            partition, key, value = _state(number, order, used[number])
            producer.produce(topic, value, key, partition=partition)
        producer.poll(0)
        if time.monotonic() > beat_at:
            _beat(bootstrap, topic, order)
            beat_at = time.monotonic() + 1
            ready.set()
        due += 0.01
        time.sleep(max(0.0, due - time.monotonic()))
    producer.flush(10)


def _as_of(partition: int, order: int) -> dict[str, Any]:
    return {
        "events_topic_id": TOPIC_ID,
        "generation": 1,
        "partition": partition,
        "journal_offset": order,
        "events_position": order,
    }


def _state(number: int, order: int, used: int = 0) -> tuple[int, str, str]:
    team, place = f"team-{number // LIMITS_A_TEAM}", number % LIMITS_A_TEAM
    partition = partition_of(team, PARTITIONS)
    kind = KINDS[place % len(KINDS)] if place > 1 else "team"
    state = {
        "team_id": team,
        "limit_id": f"limit-{place}",
        "limit_version": 1,
        "subject": kind,
        "subject_id": None if kind == "team" else f"{kind}-{(place - 2) // len(KINDS)}",
        "measure": ("credits", "tokens", "runs")[place % 3],
        "window": "month",
        "window_start": "2026-01-01T00:00:00Z",
        "window_end": "2026-02-01T00:00:00Z",
        "amount": 10**12,
        "as_of": _as_of(partition, order),
        "enforcement": "hard",
        "state": "admitting",
        "used": used,
        "reached_permille": 0,
    }
    key = json.dumps(["team", team, state["limit_id"]], separators=(",", ":"))
    return partition, key, json.dumps(state, separators=(",", ":"))


def _organise(running: Stack, topic: str, limits: int) -> None:
    """Put all teams below the organisations, and give each of these a limit."""
    _write(running.bootstrap, running.topic(CATALOG), _entries(limits // LIMITS_A_TEAM))
    _write(running.bootstrap, topic, (_state_of_organisation(one) for one in ORGANISATIONS))
    _beat(running.bootstrap, topic, 1 << 40)
    _beat(running.bootstrap, topic, 1, "organisations")


def _wait_for_organisations(gate: LimitGate, limits: int) -> None:
    asked = _asked(limits)
    until = time.monotonic() + 60
    while any(len(gate.check(*one).limits) < 6 + len(ORGANISATIONS) for one in asked):
        if time.monotonic() > until:
            raise RuntimeError("the gate did not learn of the organisations")
        time.sleep(0.1)


def _entries(teams: int) -> Iterator[tuple[int, str, str]]:
    for team in (f"team-{number}" for number in range(teams)):
        yield _entry("team", {"team_id": team, "organisation_id": ORGANISATIONS[0]})
    for below, above in pairwise(ORGANISATIONS):
        yield _entry("organisation", {"organisation_id": below, "parent_id": above})


def _entry(kind: str, data: dict[str, str]) -> tuple[int, str, str]:
    event = {"type": f"meterstream.{kind}.registered.v1", "data": data}
    return 0, f"{kind}/{data[f'{kind}_id']}", json.dumps(event)


def _state_of_organisation(organisation: str) -> tuple[int, str, str]:
    _, _, state = _state(0, 1)
    partition = partition_of(organisation, PARTITIONS)
    owned = {"team_id": None, "organisation_id": organisation, "subject": "organisation"}
    key = json.dumps(["organisation", organisation, "limit-0"], separators=(",", ":"))
    value = json.dumps(json.loads(state) | owned | {"as_of": _as_of(partition, 1)})
    return partition, key, value


def _beat(bootstrap: str, topic: str, order: int, owners: Owners = "teams") -> None:
    now = datetime.now(UTC).isoformat()
    _write(
        bootstrap,
        topic,
        (
            (
                partition,
                heartbeat_key(partition, owners),
                json.dumps(
                    {
                        "partition": partition,
                        "owners": owners,
                        "as_of": _as_of(partition, order),
                        "clock": now,
                    }
                ),
            )
            for partition in range(PARTITIONS)
        ),
    )


def _write(bootstrap: str, topic: str, records: Iterator[tuple[int, str, str]]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    for partition, key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError("the broker did not take the states of limits")
