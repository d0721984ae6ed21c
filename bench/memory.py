"""What the meter's memory does as events go by, and what an identity costs."""

import gc
import os
import statistics
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from prometheus_client.parser import text_string_to_metric_families

from meterstream.local.ports import free_ports
from meterstream.schemas.topics import EVENTS
from meterstream.streams.core import Ids
from meterstream.streams.core.dedup import Dedup
from meterstream.streams.core.policy import DAY_US, HOUR_US

from .stack import PARTITIONS, Stack, service, stack
from .traffic import Sent, Shape, events, publish, told

BATCH_IDS = 20_000
FIRST_HOURS = 30
"""Log time that passes up to the first figure: more than identities are kept by default, so that
from there on as many are forgotten as come."""
WINDOW_EVENTS = 100_000
"""A figure is the mean over so many events: memory rises and falls within each batch."""
SPARE = 0.05
"""So many more events are published, as a share: the last figure is taken in full flow, too."""
SAMPLE_S = 0.1
LIMIT_S = 1_800
CORE = 1


def _rss() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def bytes_an_id(count: int, hours: int = 24) -> dict[str, Any]:
    """Add `count` random ids over `hours` of event time, batch by batch, to a fresh memory.

    The figure is the growth of this process's resident memory divided by the number of ids, so
    filters, merges and what the allocator keeps are in it.
    """
    rng = np.random.default_rng(7)
    dedup = Dedup(DAY_US)
    first_hour = 495_000
    before = _rss()
    began = time.perf_counter()
    for i in range(0, count, BATCH_IDS):
        hi = np.sort(rng.integers(0, 2**64, BATCH_IDS, np.uint64))
        lo = rng.integers(0, 2**64, BATCH_IDS, np.uint64)
        hour = np.full(BATCH_IDS, first_hour + i * hours // count, np.uint32)
        dedup.find(hi, lo)
        dedup.add(Ids(hi, lo, np.zeros(BATCH_IDS, np.uint32), hour))
    seconds = time.perf_counter() - began
    return {
        "ids": dedup.count,
        "bytes_per_id": round((_rss() - before) / count, 1),
        "own_count_bytes_per_id": round(dedup.nbytes / count, 1),
        "us_per_id": round(seconds / count * 1e6, 2),
    }


@dataclass(frozen=True, slots=True)
class Sample:
    """The meter at one moment: resident bytes, and what its own metrics say it holds."""

    rss: int
    decided: int
    cells: int
    ids: int


def resident_growth(data: Path, first: int, last: int, say: Any) -> dict[str, Any]:
    """Compare the meter's resident memory at `last` events with that at `first`.

    It is the installed meter with default settings on a backlog in which log time and event time
    advance together, evenly: so cells close and identities are forgotten at the rate at which new
    ones come, and as many of both are held at either moment.
    """
    with stack(data, "bench-memory.", clickhouse=False) as running:
        running.set_up()
        count = round(last * (1 + SPARE))
        span_us = FIRST_HOURS * HOUR_US * count // first
        start_us = time.time_ns() // 1_000 - span_us
        say(f"memory: publishing {count:,} events over {span_us // HOUR_US} hours of log time")
        # Batches keep the timestamps that they came with, so the log's time can be that of the
        # traffic; before the meter starts, the topic is as it must be again.
        _stamp(running, "CreateTime")
        sent = Sent()
        publish(
            running.bootstrap,
            running.topic(EVENTS),
            PARTITIONS,
            told(
                events(Shape(), count, start_us, span_us, sent),
                lambda n: say(f"memory: {n:,} of {count:,} published"),
            ),
            sent,
            log_time_ms=lambda i: (start_us + span_us * i // count) // 1_000,
        )
        _stamp(running, "LogAppendTime")
        say("memory: metering")
        samples = list(_samples(running, last))
    at_first, at_last = (_around(samples, events) for events in (first, last))
    return {
        "events": [first, last],
        "ratio": round(at_last["rss_mb"] / at_first["rss_mb"], 3),
        "at_first": at_first,
        "at_last": at_last,
        "peak_rss_mb": round(max(sample.rss for sample in samples) / 1e6, 1),
    }


def _stamp(running: Stack, kind: str) -> None:
    """Set who stamps the records of the events topic: their producer, or the broker."""
    topic = ConfigResource(
        ResourceType.TOPIC,
        running.topic(EVENTS),
        incremental_configs=[
            ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
        ],
    )
    admin = AdminClient({"bootstrap.servers": running.bootstrap})
    for done in admin.incremental_alter_configs([topic]).values():
        done.result(30)


def _samples(running: Stack, count: int) -> Iterator[Sample]:
    """Run the meter until it has decided `count` events, and yield what it held on the way."""
    (port,) = free_ports(1)
    settings = {"METERSTREAM_METER_METRICS_PORT": str(port)}
    with service(running, "meter", core=CORE, settings=settings) as process:
        deadline = time.monotonic() + LIMIT_S
        decided = 0
        while decided < count:
            if process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError("the meter ended; its log's last lines follow")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the meter decided {decided} of {count} events in 30 min")
            time.sleep(SAMPLE_S)
            found = _gauges(port)
            decided = found.get("meterstream_meter_events_position", 0)
            yield Sample(
                process.memory_info().rss,
                decided,
                found.get("meterstream_meter_live_cells", 0),
                found.get("meterstream_meter_dedup_ids", 0),
            )


def _gauges(port: int) -> dict[str, int]:
    """Return the meter's metrics, summed over partitions; none while it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {
        family.name: int(sum(sample.value for sample in family.samples))
        for family in text_string_to_metric_families(text)
        if family.type == "gauge"
    }


def _around(samples: list[Sample], events: int) -> dict[str, Any]:
    """Return what the meter held on average while it decided the events up to this number."""
    near = [s for s in samples if events - WINDOW_EVENTS <= s.decided <= events]
    if not near:
        raise RuntimeError(f"no sample was taken near {events:,} events")
    rss_mb = [sample.rss / 1e6 for sample in near]
    return {
        "rss_mb": round(statistics.mean(rss_mb), 1),
        "least_rss_mb": round(min(rss_mb), 1),
        "most_rss_mb": round(max(rss_mb), 1),
        "live_cells": round(statistics.mean(sample.cells for sample in near)),
        "ids": round(statistics.mean(sample.ids for sample in near)),
        "samples": len(near),
    }
