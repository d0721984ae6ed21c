"""A process for tests that follows a gate, to be killed.

python -m tests.support.gate_watch FILE BOOTSTRAP PREFIX SUBJECT...

A subject is TEAM or TEAM/USER. A line of FILE says what changed since the one before: {"blocked":
[[team, limit], ...], "admits": [...]}; the first, once the gate is ready, what blocks then.
"""

import json
import os
import sys
import time
from itertools import count

from prometheus_client import CollectorRegistry

from meterstream.producers import GateSettings, LimitGate

_READY_S = 150.0
_INTERVAL_S = 0.02


def main(file: str, bootstrap: str, prefix: str, *subjects: str) -> None:
    """Ask the gate for all subjects again and again."""
    settings = GateSettings.make(
        kafka_bootstrap=bootstrap, topic_prefix=prefix, gate_max_age_s=86_400
    )
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    known: set[tuple[str, str]] = set()
    with LimitGate(settings, registry=CollectorRegistry()) as gate:
        gate.wait_ready(_READY_S)
        for turn in count():
            now: set[tuple[str, str]] = set()
            for subject in subjects:
                team, _, user = subject.partition("/")
                decision = gate.check(team, user=user or None)
                now |= {(team, limit.limit_id) for limit in decision.refused_by}
            if now != known or turn == 0:
                told = {"blocked": sorted(now - known), "admits": sorted(known - now)}
                os.write(out, json.dumps(told).encode() + b"\n")
            known = now
            time.sleep(_INTERVAL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
