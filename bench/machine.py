"""What the figures were measured on, and how figures of several runs are told."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "faust-streaming", "mode-streaming", "aiokafka", "confluent-kafka", "clickhouse-connect",
    "chdb", "numpy", "pyarrow", "msgspec", "xxhash", "cramjam",
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and the versions that matter."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def spread(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Return minimum, median and maximum of the runs."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
    }


def quantile(values: Sequence[float], level: float) -> float:
    """Return the value at `level` as numpy's inverted_cdf does."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(level * 1_000_000) * len(ordered) // 1_000_000) - 1)]
