"""What it costs to make states of limits public, and how soon a crossing is out.

A journal is written as the meter would write it, in which every limit changes four times a second,
and each record tells a crossing. So the figures are the publisher's alone.
"""

import json
import threading
import time
import zlib
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psutil
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition

from meterstream.schemas.arrow import arrow_schema
from meterstream.schemas.journal import HEADER_KEY, Header, Kind, Section, pack_sections
from meterstream.schemas.journal.header import NONE
from meterstream.schemas.rows import LIMIT_STATE
from meterstream.schemas.topics import JOURNAL, THRESHOLDS

from .machine import quantile
from .stack import PARTITIONS, Stack, service, stack

PER_SECOND = 4
DAY_US = 86_400_000_000
WARM_UP_S = 5
WAIT_S = 120
_SCHEMA = arrow_schema(LIMIT_STATE)


class _Partition:
    """Writes the journal of one partition, whose limits all change with each record."""

    def __init__(self, running: Stack, producer: Producer, number: int, limits: int) -> None:
        self._topic, self._producer, self._number = running.topic(JOURNAL), producer, number
        self._limits, self._step = limits, 0
        self._day_us = time.time_ns() // 1000 // DAY_US * DAY_US
        self._write(Kind.GENESIS, {Section.GENESIS: b"{}"}, NONE)

    def step(self) -> None:
        """Write a record that tells all limits, and that one of them was reached."""
        sections = {Section.LIMIT_STATES: self._states(), Section.CROSSINGS: self._crossing()}
        self._write(Kind.STEP, sections, self._step)
        self._step += 1

    def _states(self) -> bytes:
        n = self._limits
        start = pa.array(np.full(n, self._day_us)).cast(pa.timestamp("us", tz="UTC"))
        end = pa.array(np.full(n, self._day_us + DAY_US)).cast(pa.timestamp("us", tz="UTC"))
        plain: dict[str, Any] = {
            "team_id": [f"team-{self._number}-{i // 100}" for i in range(n)],
            "limit_id": [f"limit-{i}" for i in range(n)],
            "limit_version": [1] * n,
            "subject": ["user"] * n,
            "subject_id": [f"user-{i}" for i in range(n)],
            "measure": ["credits"] * n,
            "window": ["day"] * n,
            "window_start": start,
            "window_end": end,
            "amount": [10**12] * n,
            "enforcement": ["hard"] * n,
            "used": np.arange(n) * 1_000 + self._step,
        }
        columns = [
            pa.array(plain.get(field.name, [0] * n)).cast(field.type)
            if field.name not in ("window_start", "window_end")
            else plain[field.name]
            for field in _SCHEMA
        ]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, _SCHEMA) as writer:
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        return bytes(sink.getvalue())

    def _crossing(self) -> bytes:
        row = {
            "kind": "reached",
            "team_id": f"team-{self._number}-0",
            "limit_id": "limit-0",
            "limit_version": 1 + self._step,
            "subject": "user",
            "subject_id": "user-0",
            "measure": "credits",
            "window": "day",
            "window_start_us": self._day_us,
            "window_end_us": self._day_us + DAY_US,
            "amount": 10**12,
            "level_permille": 500,
            "used": 5 * 10**11,
        }
        return json.dumps([row]).encode()

    def _write(self, kind: Kind, sections: dict[Section, bytes], prev: int) -> None:
        value = pack_sections(sections)
        header = Header(
            kind=kind,
            grace_seconds=600,
            generation=1,
            events_topic_id=UUID(int=1),
            journal_topic_id=UUID(int=2),
            prev=prev,
            events_from=0,
            events_to=0,
            control_to=0,
            catalog_to=0,
            clock_us=time.time_ns() // 1000,
            clock_limit_us=2**62,
            last_event_offset=NONE,
            last_event_time_us=0,
            last_event_hash=0,
            last_event_epoch=NONE,
            value_crc32=zlib.crc32(value),
        )
        headers: Any = [(HEADER_KEY, header.pack())]
        self._producer.produce(self._topic, value, partition=self._number, headers=headers)
        self._producer.poll(0)


class _Thresholds:
    """Notes when readers of committed data see threshold events, and how old these are then."""

    def __init__(self, running: Stack) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": running.bootstrap,
                "group.id": "bench",
                "fetch.wait.max.ms": 20,
            }
        )
        topic = running.topic(THRESHOLDS)
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self._done = threading.Event()
        self.seen: list[tuple[float, float]] = []
        """When it was seen, and how many ms after the log time of its journal record."""
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._done.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            now = time.time()
            told_at = np.datetime64(json.loads(message.value() or b"")["time"].rstrip("Z"), "us")
            self.seen.append((now, now * 1_000 - told_at.astype(np.int64) / 1_000))

    def wait(self, count: int) -> None:
        """Wait until so many were seen."""
        deadline = time.monotonic() + WAIT_S
        while len(self.seen) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.seen)} of {count} crossings are public")
            time.sleep(0.05)

    def close(self) -> None:
        """Stop."""
        self._done.set()
        self._thread.join()
        self._consumer.close()


def measure(data: Path, limits: int, seconds: int, say: Any) -> dict[str, Any]:
    """Publish `limits` that change four times a second for `seconds`, then as fast as it goes."""
    with stack(data, "bench-publisher.", clickhouse=False) as running:
        running.set_up()
        producer = Producer(
            {"bootstrap.servers": running.bootstrap, "message.max.bytes": 16_000_000}
        )
        partitions = [
            _Partition(running, producer, number, limits // PARTITIONS)
            for number in range(PARTITIONS)
        ]
        producer.flush()
        watch = _Thresholds(running)
        core = (psutil.cpu_count() or 1) - 1
        try:
            with service(running, "publisher", core=core, settings={}) as process:
                say(f"publisher: {limits:,} limits, {PER_SECOND} changes a second each")
                steady = _steady(partitions, producer, watch, process, seconds)
            rounds = PER_SECOND * seconds
            before = len(watch.seen)
            for _ in range(rounds):
                for partition in partitions:
                    partition.step()
            producer.flush()
            # One record a transaction, so that no state takes the place of another.
            alone = {"METERSTREAM_PUBLISHER_MAX_RECORDS": "1"}
            with service(running, "publisher", core=core, settings=alone):
                say("publisher: as fast as it goes")
                watch.wait(before + rounds * PARTITIONS)
            times = sorted(at for at, _ in watch.seen[before:])
        finally:
            watch.close()
    states = (rounds * PARTITIONS - 1) * (limits // PARTITIONS)
    return steady | {"limits": limits, "states_per_second": round(states / (times[-1] - times[0]))}


def _steady(
    partitions: list[_Partition],
    producer: Producer,
    watch: _Thresholds,
    process: psutil.Process,
    seconds: int,
) -> dict[str, Any]:
    begun = time.monotonic()
    rounds = PER_SECOND * (seconds + WARM_UP_S)
    warm = PER_SECOND * WARM_UP_S
    for number in range(rounds):
        time.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
        if number == warm:
            watch.wait(number * PARTITIONS)
            cpu_s, seen = sum(process.cpu_times()[:2]), len(watch.seen)
        for partition in partitions:
            partition.step()
        producer.flush()
    watch.wait(rounds * PARTITIONS)
    states = sum(partition._limits for partition in partitions) * (rounds - warm)
    spent_s = sum(process.cpu_times()[:2]) - cpu_s
    ages = [age for _, age in watch.seen[seen:]]
    return {
        "crossing_p50_ms": round(quantile(ages, 0.5)),
        "crossing_p99_ms": round(quantile(ages, 0.99)),
        "cpu_us_per_state": round(spent_s / states * 1e6, 2),
        "cores": round(spent_s / seconds, 3),
    }
