"""How many events a second the meter decides, from a backlog, on one core, default settings."""

import json
import time
from pathlib import Path
from typing import Any

import psutil

from .stack import JournalWatch, Stack, events_ends, service, stack
from .traffic import Sent, Shape, events, publish, told

SPAN_US = 240 * 1_000_000
CORE = 1


def measure(data: Path, count: int, *, hard: bool, audit: bool, say: Any) -> dict[str, Any]:
    """Prefill `count` events, run the meter on one core until all are decided, then the audit.

    The time runs from the journal's first record, which is written before the first fetch, to
    its last acknowledged one, both by the broker's clock. CPU is that of all the meter's threads.
    """
    name = "hard" if hard else "easy"
    with stack(data, f"bench-{name}.", clickhouse=audit) as running:
        running.set_up()
        sent = Sent()
        start_us = time.time_ns() // 1_000 - SPAN_US
        say(f"{name}: publishing {count:,} events")
        publish(
            running.bootstrap,
            running.topic("events"),
            4,
            told(
                events(Shape(hard=hard), count, start_us, SPAN_US, sent),
                lambda n: say(f"{name}: {n:,} of {count:,} published"),
            ),
            sent,
        )
        say(f"{name}: metering")
        result = _meter(running)
        result |= {
            "case": name,
            "events": sent.events,
            "event_bytes": round(sent.bytes / sent.events),
            "duplicates": sent.duplicates,
            "invalid": sent.invalid,
        }
        if audit:
            say(f"{name}: sink and audit")
            result |= _sink_and_audit(running)
    return result


def _meter(running: Stack) -> dict[str, Any]:
    ends = events_ends(running)
    total = sum(ends)
    watch = JournalWatch(running)
    samples: list[tuple[float, float]] = []
    peak = 0
    with service(running, "meter", core=CORE, settings={}) as process:
        deadline = time.monotonic() + 900
        while True:
            times = process.cpu_times()
            samples.append((time.time(), times.user + times.system))
            peak = max(peak, process.memory_info().rss)
            decided = watch.decided()
            if decided == ends:
                break
            if process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError("the meter ended; its log's last lines follow")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the meter decided {sum(decided)} of {total} events in 15 min")
            time.sleep(0.1)
    first_ms = min(watch.at(p, 0).time_ms for p in range(len(ends)) if ends[p])
    last_ms = max(end.time_ms for p in range(len(ends)) if (end := watch.last(p)) is not None)
    records = sum(running.ends("journal"))
    watch.close()
    wall_s = (last_ms - first_ms) / 1_000
    cpu_s = _cpu_at(samples, last_ms / 1_000) - _cpu_at(samples, first_ms / 1_000)
    return {
        "events_per_second": round(total / wall_s),
        "cpu_us_per_event": round(cpu_s / total * 1e6, 2),
        "wall_s": round(wall_s, 2),
        "journal_records": records,
        "peak_rss_mb": round(peak / 1e6),
    }


def _cpu_at(samples: list[tuple[float, float]], moment: float) -> float:
    """Return the CPU seconds used by `moment`, between the samples around it."""
    before = max((s for s in samples if s[0] <= moment), default=samples[0])
    after = min((s for s in samples if s[0] >= moment), default=samples[-1])
    if after[0] == before[0]:
        return before[1]
    share = (moment - before[0]) / (after[0] - before[0])
    return before[1] + share * (after[1] - before[1])


def _sink_and_audit(running: Stack) -> dict[str, Any]:
    with (
        service(running, "sink", core=None, settings={}),
        service(running, "publisher", core=None, settings={}),
    ):
        done = running.command("audit", "--json", "--timeout", "600")
    found = json.loads(done.stdout)
    return {"audit_exit": done.returncode, "audit": found.get("total", found)}
