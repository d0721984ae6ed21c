"""What the core's memory does as events go by, and what an identity costs."""

import gc
import os
import time
from typing import Any
from uuid import UUID

import numpy as np
import psutil

from meterstream.streams.core import (
    EventBatch,
    Ids,
    Policy,
    apply_step,
    begin,
    compute_step,
    genesis_step,
)
from meterstream.streams.core.dedup import Dedup
from meterstream.streams.core.policy import DAY_US, HOUR_US

BATCH_IDS = 20_000


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


def resident_growth(first: int, last: int) -> dict[str, Any]:
    """Meter `last` events with constantly as many live cells and ids; compare resident memory.

    Each batch lies a fixed step of event time after the one before, so minutes close and ids are
    forgotten at the rate at which new ones come.
    """
    policy = Policy(partitions=1, horizon_us=HOUR_US)
    state = begin(
        policy,
        0,
        0,
        0,
        genesis_step(
            grace_seconds=600,
            generation=1,
            events_topic_id=UUID(int=1),
            journal_topic_id=UUID(int=2),
            control_topic_id=UUID(int=3),
            catalog_topic_id=UUID(int=4),
            events_from=0,
        ),
    )
    at_first = 0
    size = 10_000
    clock_us = 1_780_000_000_000_000
    for start in range(0, last, size):
        clock_us += 4 * 60_000_000
        values = [_event(start + i, clock_us) for i in range(size)]
        batch = EventBatch(
            start, start + size, range(start, start + size), [clock_us] * size, values
        )
        step = compute_step(state, batch, now_us=clock_us)
        if step.counts.get("counted") != size:
            raise RuntimeError(f"not all events were counted: {step.counts} {step.reasons}")
        apply_step(state, step, state.link.next_offset, clock_us)
        if start + size == first:
            at_first = _rss()
    at_last = _rss()
    return {
        "events": [first, last],
        "rss_mb": [round(at_first / 1e6, 1), round(at_last / 1e6, 1)],
        "ratio": round(at_last / at_first, 3),
        "live_cells": state.live_cells,
        "ids": state.dedup_ids,
    }


def _event(number: int, time_us: int) -> bytes:
    from .traffic import _timestamp

    at = _timestamp(time_us)
    return (
        f'{{"specversion":"1.0","type":"meterstream.run.completed.v1","source":"/chat",'
        f'"id":"{number:020x}","time":"{at}","data":{{"team_id":"team-{number % 50}",'
        f'"user_id":"user-{number % 2000}","agent_id":"agent-{number % 100}","model":"m",'
        f'"run_id":"r-{number}","operation":"agent_run","started_at":"{at}",'
        f'"status":"completed","input_tokens":100,"output_tokens":10}}}}'
    ).encode()
