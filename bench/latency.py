"""How long an event takes from its producer's call to a row that a query in ClickHouse sees."""

import threading
import time
from pathlib import Path
from typing import Any

from .machine import quantile
from .stack import Stack, service, stack
from .traffic import Sent, Shape, events, publish

POLL_S = 0.1
WARM_UP_S = 15
MAKE_S = 100e-6
"""More than it takes to make an event."""


def measure(data: Path, rate: int, seconds: int, say: Any) -> dict[str, Any]:
    """Send `rate` events a second for `seconds` through the whole pipeline; latencies in ms.

    An event counts as seen when the ledger, which the sink writes after the usage, covers its
    offset; it is asked for every 100 ms, and that is part of the figure. The first seconds, in
    which services warm up, are not counted.
    """
    with stack(data, "bench-latency.", clickhouse=True) as running:
        running.set_up()
        with (
            service(running, "sink", core=None, settings={}),
            service(running, "publisher", core=None, settings={}),
            service(running, "meter", core=None, settings={}),
        ):
            say(f"latency: {rate:,} events a second for {seconds} s")
            return _follow(running, rate, seconds)


def _follow(running: Stack, rate: int, seconds: int) -> dict[str, Any]:
    sent_at: dict[tuple[int, int], float] = {}
    waiting: list[dict[int, float]] = [{} for _ in range(4)]
    lock = threading.Lock()
    latencies: list[float] = []
    sent = Sent()
    count = rate * seconds
    # Made beforehand: what makes the traffic shall not take time from what is measured.
    began = time.time() + count * MAKE_S
    made = list(events(Shape(), count, int(began * 1e6), seconds * 1_000_000, sent))
    time.sleep(max(0.0, began - time.time()))
    done = threading.Event()

    def acknowledged(partition: int, offset: int, at: float) -> None:
        with lock:
            waiting[partition][offset] = at
            sent_at[partition, offset] = at

    def poll() -> None:
        assert running.clickhouse is not None
        client = running.clickhouse.client(database=running.database_name)
        deadline = time.monotonic() + seconds + 60
        while time.monotonic() < deadline:
            rows = client.query(
                "SELECT partition, max(events_to) FROM ledger GROUP BY partition"
            ).result_rows
            now = time.time()
            with lock:
                for partition, events_to in rows:
                    mine = waiting[partition]
                    for offset in [o for o in mine if o < events_to]:
                        at = mine.pop(offset)
                        if at > began + WARM_UP_S:
                            latencies.append((now - at) * 1_000)
                left = sum(map(len, waiting))
            if done.is_set() and not left:
                return
            time.sleep(POLL_S)

    poller = threading.Thread(target=poll)
    poller.start()
    publish(
        running.bootstrap, running.topic("events"), 4, iter(made), sent,
        rate=rate, acknowledged=acknowledged,
    )  # fmt: skip
    done.set()
    poller.join()
    unseen = sum(map(len, waiting))
    if unseen:
        raise RuntimeError(f"{unseen} of {count} events were not seen a minute after the last")
    return {
        "rate": rate,
        "events": len(latencies),
        "p50_ms": round(quantile(latencies, 0.5)),
        "p99_ms": round(quantile(latencies, 0.99)),
        "max_ms": round(max(latencies)),
    }
