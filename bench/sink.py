"""How many cell rows a second the sink brings from the journal into ClickHouse."""

import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from meterstream.local.ports import free_ports

from .stack import JournalWatch, Stack, events_ends, service, stack
from .traffic import Sent, Shape, events, publish

SPAN_US = 240 * 1_000_000
POLL_S = 0.1
PATIENCE_S = 900
FEEDS = {"cells": ("usage_minutes", "charges", "ledger"), "history": ("runs",)}
"""The feeds that read the journal, and the tables they fill; the first one gives the figure."""


def measure(data: Path, count: int, runs: int, say: Any) -> list[dict[str, Any]]:
    """Let a real meter fill the journal from `count` events, and sinks store it, one after another.

    Every combination of user, agent and model is equally likely, so nearly every event changes a
    cell of its own: no row is saved by a later one of the same cell. Each run has a database of
    its own and one installed sink process with its default settings, so single runs and charges
    are stored at the same time. The time of a feed goes from its first fetch to the last insert
    that ClickHouse acknowledged; CPU is that of all threads of the sink while the cells feed works.
    """
    with stack(data, "bench-sink.", clickhouse=True, pinned=False) as running:
        running.set_up()
        sent = Sent()
        start_us = time.time_ns() // 1_000 - SPAN_US
        say(f"sink: publishing {count:,} events")
        source = events(Shape(hard=True), count, start_us, SPAN_US, sent)
        publish(running.bootstrap, running.topic("events"), 4, source, sent)
        say("sink: filling the journal")
        _meter(running)
        found = []
        for n in range(runs):
            say(f"sink: run {n + 1} of {runs}")
            found.append(_run(replace(running, database=f"bench_sink_{n}"), sent))
        return found


def _meter(running: Stack) -> None:
    ends, watch = events_ends(running), JournalWatch(running)
    with service(running, "meter", core=None, settings={}) as process:
        deadline = time.monotonic() + PATIENCE_S
        while watch.decided() != ends:
            _expect(process, deadline, "the meter")
            time.sleep(POLL_S)
    watch.close()


@dataclass(frozen=True, slots=True)
class Look:
    """What the sink told at one moment, and the CPU seconds that sink and engine had used then."""

    at_s: float
    sink_cpu_s: float
    engine_cpu_s: float
    values: Mapping[tuple[str, str], float]
    """By metric and by feed or table, summed over partitions."""

    def records(self, feed: str) -> float:
        """Return the journal records that the feed has taken or passed over."""
        return self._of("records_total", feed) + self._of("void_records_total", feed)

    def rows(self, table: str) -> float:
        """Return the rows that were sent to the table."""
        return self._of("rows_total", table)

    def has_stored(self, feed: str, records: int) -> bool:
        """Tell whether the feed has taken all records, and a flush has reported no lag since."""
        return self.records(feed) == records and self._of("lag_records", feed) == 0

    def _of(self, metric: str, label: str) -> float:
        return self.values.get((f"meterstream_sink_{metric}", label), 0.0)


def _run(running: Stack, sent: Sent) -> dict[str, Any]:
    running.command("migrate")
    records = sum(running.ends("journal"))
    (port,) = free_ports(1)
    looks: list[Look] = []
    peak = 0
    settings = {"METERSTREAM_SINK_METRICS_PORT": str(port)}
    with service(running, "sink", core=None, settings=settings) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not (looks and all(looks[-1].has_stored(feed, records) for feed in FEEDS)):
            _expect(process, deadline, "the sink")
            peak = max(peak, process.memory_info().rss)
            look = _look(running, process, port)
            looks += [look] if look else []
            time.sleep(POLL_S)
    _require_all(running, sent)
    found: dict[str, Any] = {"journal_records": records, "peak_rss_mb": round(peak / 1e6)}
    for feed, tables in FEEDS.items():
        first = [look for look in looks if not look.records(feed)][-1]
        last = next(look for look in looks if look.has_stored(feed, records))
        rows = {table: round(last.rows(table)) for table in tables}
        wall_s, cpu_s = last.at_s - first.at_s, last.sink_cpu_s - first.sink_cpu_s
        found[feed] = {
            "rows": rows,
            "rows_per_second": round(rows[tables[0]] / wall_s),
            "rows_per_cpu_second": round(rows[tables[0]] / cpu_s),
            "wall_s": round(wall_s, 2),
            "sink_cpu_s": round(cpu_s, 2),
            "engine_cpu_s": round(last.engine_cpu_s - first.engine_cpu_s, 2),
        }
    return found


def _look(running: Stack, process: psutil.Process, port: int) -> Look | None:
    """Return what the sink tells now; None while it does not listen yet."""
    assert running.clickhouse is not None, "the sink needs an engine"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    values: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = sample.labels.get("feed") or sample.labels.get("table") or ""
            values[sample.name, label] += sample.value  # type: ignore[assignment]
    used, engine = process.cpu_times(), psutil.Process(running.clickhouse.pid).cpu_times()
    return Look(time.monotonic(), used.user + used.system, engine.user + engine.system, values)


def _require_all(running: Stack, sent: Sent) -> None:
    """Raise RuntimeError unless the usage that the run stored is what was sent."""
    assert running.clickhouse is not None, "the sink needs an engine"
    with running.clickhouse.client(database=running.database_name) as client:
        stored = client.query(
            "SELECT (SELECT sum(runs) FROM usage_minutes FINAL),"
            " (SELECT sum(counted) FROM ledger FINAL), (SELECT count() FROM runs FINAL)"
        ).result_rows[0]
        client.command(f"DROP DATABASE {running.database_name}")
    if stored != (sent.runs,) * 3:
        raise RuntimeError(f"{sent.runs} runs were sent, {stored} are in cells, ledger and runs")


def _expect(process: psutil.Process, deadline: float, name: str) -> None:
    if process.status() == psutil.STATUS_ZOMBIE:
        raise RuntimeError(f"{name} ended; its log's last lines follow")
    if time.monotonic() > deadline:
        raise RuntimeError(f"{name} was not done within {PATIENCE_S} s")
