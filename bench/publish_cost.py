"""What `publish` costs its caller, by durability: `python -m bench.publish_cost [--kafka ADDR]`.

Without a broker it measures the way into the spool; with one (its topic `bench.events` must be
there) delivery as well. Prints one line a durability, and JSON with `--json`.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from meterstream.producers import Durability, Publisher, PublisherSettings
from meterstream.producers.encode import encode

NOWHERE = "127.0.0.1:9"


def make_events(count: int) -> list[Any]:
    """Return completed runs of 20 teams, validated already, about 450 bytes each."""
    return [
        encode(
            {
                "type": "meterstream.run.completed.v1",
                "time": "2026-01-31T12:00:01Z",
                "data": {
                    "team_id": f"team-{number % 20}",
                    "run_id": f"run-{number:08d}",
                    "operation": "agent_run",
                    "started_at": "2026-01-31T12:00:00Z",
                    "status": "completed",
                    "user_id": f"user-{number % 400}",
                    "agent_id": f"agent-{number % 100}",
                    "model": f"model-{number % 6}",
                    "input_tokens": 1200,
                    "output_tokens": 340,
                    "latency_us": 1_000_000,
                    "time_to_first_token_us": 210_000,
                },
            },
            "/bench",
        ).event
        for number in range(count)
    ]


def measure(durability: str, events: list[Any], kafka: str | None) -> dict[str, Any]:
    """Publish the events one after the other; return what it took."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as spool:
        settings = PublisherSettings.make(
            kafka_bootstrap=kafka or NOWHERE,
            spool_dir=Path(spool),
            topic_prefix="bench.",
            durability=durability,
            publish_timeout_ms=10_000,
            close_timeout_ms=0,
        )
        took_ns: list[int] = []
        with Publisher(settings) as publisher:
            began = time.perf_counter()
            for event in events:
                start = time.perf_counter_ns()
                publisher.publish(event)
                took_ns.append(time.perf_counter_ns() - start)
            published_s = time.perf_counter() - began
            if kafka:
                publisher.flush(120)
            flushed_s = time.perf_counter() - began
    took_ns.sort()
    found: dict[str, Any] = {
        "durability": durability,
        "events": len(events),
        "publish_p50_us": took_ns[len(took_ns) // 2] / 1000,
        "publish_p99_us": took_ns[len(took_ns) * 99 // 100] / 1000,
        "publish_max_us": took_ns[-1] / 1000,
        "published_per_s": round(len(events) / published_s),
    }
    if kafka:
        found["acknowledged_per_s"] = round(len(events) / flushed_s)
    return found


def main() -> None:
    """Measure each durability three times, and print the median run."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kafka", help="a broker with the topic bench.events")
    arguments.add_argument("--events", type=int, default=20_000)
    arguments.add_argument("--json", action="store_true", help="machine-readable, on stdout")
    given = arguments.parse_args()
    logging.disable(logging.WARNING)  # that there is no broker is known
    events = make_events(given.events)
    results = []
    for durability in get_args(Durability):
        share = events if durability != "synced" else events[: len(events) // 10]
        runs = sorted(
            (measure(durability, share, given.kafka) for _ in range(3)),
            key=lambda run: run["publish_p50_us"],
        )
        results.append(runs[1])
        print(runs[1], file=sys.stderr)
    if given.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count()}
        print(json.dumps({"machine": machine, "results": results}))


if __name__ == "__main__":
    main()
