"""`python -m bench`: measures, prints what it found on which machine, and writes JSON."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from . import gate, latency, memory, publisher, sink, thresholds, throughput
from .machine import describe_machine, spread

Section = Callable[[argparse.Namespace, Path], dict[str, Any]]


def say(text: str) -> None:
    """Tell on standard error what is going on."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _throughput(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for hard in (False, True):
        count = options.events if not hard else options.hard_events
        runs = [
            throughput.measure(scratch / f"run-{n}", count, hard=hard, audit=n == 0, say=say)
            for n in range(options.runs)
        ]
        name = "hard" if hard else "easy"
        found[name] = {
            "events_per_second": spread([run["events_per_second"] for run in runs]),
            "cpu_us_per_event": spread([run["cpu_us_per_event"] for run in runs], 2),
            "runs": runs,
        }
    return found


def _sink(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    runs = sink.measure(scratch / "sink", options.sink_events, options.runs, say)
    found: dict[str, Any] = {"runs": runs}
    for feed in sink.FEEDS:
        for figure in ("rows_per_second", "rows_per_cpu_second"):
            found[f"{feed}_{figure}"] = spread([run[feed][figure] for run in runs])
    return found


def _latency(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    runs = [
        latency.measure(scratch / f"latency-{n}", options.rate, options.seconds, say)
        for n in range(options.runs)
    ]
    return {
        "p50_ms": spread([run["p50_ms"] for run in runs]),
        "p99_ms": spread([run["p99_ms"] for run in runs]),
        "runs": runs,
    }


def _thresholds(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    runs = [
        thresholds.measure(
            scratch / f"thresholds-{n}", options.limits, options.limit_rate, options.seconds, say
        )
        for n in range(options.runs)
    ]
    return {
        "p50_ms": spread([run["p50_ms"] for run in runs]),
        "p99_ms": spread([run["p99_ms"] for run in runs]),
        "runs": runs,
    }


def _publisher(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    runs = [
        publisher.measure(scratch / f"publisher-{n}", options.limits, min(options.seconds, 20), say)
        for n in range(options.runs)
    ]
    figures = ("states_per_second", "cpu_us_per_state", "crossing_p50_ms", "crossing_p99_ms")
    return {name: spread([run[name] for run in runs], 2) for name in figures} | {"runs": runs}


def _memory(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    # In a process of its own: what others leave behind would be the base of its figure.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ids = pool.submit(memory.bytes_an_id, 10_000_000).result()
    growth = memory.resident_growth(scratch / "memory", 1_000_000, options.events, say)
    return {"identities": ids, "growth": growth}


def _gate(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    runs = [
        gate.measure(scratch / f"gate-{n}", options.gate_limits, options.updates, 10, say)
        for n in range(options.runs)
    ]
    return {
        "load_seconds": spread([run["load_seconds"] for run in runs], 2),
        "check_p50_us": spread([run["updated"]["p50_us"] for run in runs], 2),
        "check_p99_us": spread([run["updated"]["p99_us"] for run in runs], 2),
        "runs": runs,
    }


SECTIONS: dict[str, Section] = {
    "throughput": _throughput,
    "sink": _sink,
    "latency": _latency,
    "thresholds": _thresholds,
    "publisher": _publisher,
    "memory": _memory,
    "gate": _gate,
}


def main() -> int:
    """Run the benchmarks that are asked for; 0 when all were measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--hard-events", type=int, default=1_000_000)
    parser.add_argument("--sink-events", type=int, default=2_200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, default=2_000, help="events a second for latency")
    parser.add_argument("--seconds", type=int, default=60, help="how long latency is measured")
    parser.add_argument("--limits", type=int, default=10_000, help="for thresholds and publisher")
    parser.add_argument(
        "--limit-rate", type=int, default=20_000, help="events a second for thresholds"
    )
    parser.add_argument("--gate-limits", type=int, default=100_000, help="limits for gate")
    parser.add_argument("--updates", type=int, default=1_000, help="states a second for gate")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    report: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
    }
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as scratch:
        for name, section in SECTIONS.items():
            if not options.sections or name in options.sections:
                say(f"measuring {name}")
                report[name] = section(options, Path(scratch))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    say(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
