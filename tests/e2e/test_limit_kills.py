"""Kills with -9 while limits are reached: each crossing is public once, and none is missing."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.pipeline import PARTITIONS, Pipeline, Traffic, pipeline
from tests.support.model import Rules
from tests.support.slow_count import read_topic, slow_count
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.thresholds import LIMIT_BLOCKED, THRESHOLD_REACHED
from meterstream.schemas.topics import EVENTS
from meterstream.schemas.verdicts import Verdict

KILLS = int(os.environ.get("METERSTREAM_TEST_KILLS", "4"))
PER_SECOND = 2_000
LEVELS = (50, 80, 100)
TARGETS = (("meter",), ("publisher",), ("meter", "publisher"))

Crossing = tuple[str, str, str, int, int]
"""Type, team, limit, level (0 where it is none) and offset of the event that crossed."""


@dataclass(frozen=True)
class Limited:
    """A limit of this month, as the test sets it."""

    team: str
    user: str | None
    measure: str
    amount: int

    @property
    def limit_id(self) -> str:
        """What it is called where nothing else is said."""
        subject = "team" if self.user is None else f"user-{self.user}"
        return f"{subject}-{self.measure}-month"

    def amount_of(self, run: RunCompleted) -> int:
        """Return what a run adds to what it counts."""
        data = run.data
        if data.team_id != self.team or (self.user is not None and data.user_id != self.user):
            return 0
        return 1 if self.measure == "runs" else data.input_tokens + data.output_tokens

    def to_yaml(self) -> dict[str, Any]:
        """Return it as `limits apply` reads it."""
        subject = {} if self.user is None else {"user": self.user}
        return {
            "team": self.team, **subject, "measure": self.measure, "window": "month",
            "amount": self.amount, "alert": list(LEVELS), "enforcement": "hard",
        }  # fmt: skip


def limits() -> list[Limited]:
    """Return limits that are reached at different moments of the traffic."""
    found = []
    for number in range(20):
        share = KILLS * PER_SECOND // 20 * (number + 4) // 20
        found.append(Limited(f"team-{number}", None, "runs", share))
        found.append(Limited(f"team-{number}", None, "tokens", share * share * 10))
        found.append(Limited(f"team-{number}", f"user-{number}", "runs", 1 + number * KILLS // 16))
    return found


def crossings_of(made: Pipeline) -> Iterator[Crossing]:
    """Yield each crossing as a reader of committed data gets it."""
    for record in committed(made, "thresholds"):
        data = record["data"]
        if record["type"] in (THRESHOLD_REACHED, LIMIT_BLOCKED):
            place = data["team_id"], data["limit_id"], data.get("level_permille", 0)
            yield record["type"], *place, data["cause"]["offset"]


def committed(made: Pipeline, name: str) -> Iterator[dict[str, Any]]:
    """Yield the committed records of a topic."""
    for log in read_topic(made.kafka, made.prefix + name):
        for record in log.records:
            if record.value is not None:
                yield json.loads(record.value)


def counted_slowly(made: Pipeline) -> set[Crossing]:
    """Return the crossings of the events topic, one run and one limit at a time."""
    counted = slow_count(made.kafka, Rules(partitions=PARTITIONS), prefix=made.prefix)
    used: Counter[Limited] = Counter()
    found: set[Crossing] = set()
    wanted = limits()
    for log in read_topic(made.kafka, made.prefix + EVENTS):
        for record in log.records:
            if counted[log.partition].verdicts[record.offset] is not Verdict.COUNTED:
                continue
            run = parse_event(record.value, EVENTS)
            assert isinstance(run, RunCompleted)
            for limit in wanted:
                added, before = limit.amount_of(run), used[limit]
                used[limit] += added
                for level in LEVELS:
                    if before * 100 < limit.amount * level <= used[limit] * 100:
                        place = limit.team, limit.limit_id
                        found.add((THRESHOLD_REACHED, *place, level * 10, record.offset))
                        if level == 100:
                            found.add((LIMIT_BLOCKED, *place, 0, record.offset))
    return found


def is_all_published(made: Pipeline) -> bool:
    """Tell whether the heartbeats say that every event is counted and what follows is out."""
    heard = {
        record["partition"]: record["as_of"]["events_position"]
        for record in committed(made, "limit-states")
        if "clock" in record
    }
    return [heard.get(partition) for partition in range(PARTITIONS)] == made.ends("events")


@pytest.mark.timeout(240 + 30 * KILLS)
def test_each_crossing_is_public_once(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, tmp_path: Path
) -> None:
    """Whatever is killed in between: as the slow count has them, by the same events."""
    rng = random.Random(7)
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made:
        made.start("publisher", "meter")
        file = tmp_path / "limits.yaml"
        file.write_text(yaml.safe_dump({"limits": [limit.to_yaml() for limit in limits()]}))
        made.wait_ready()
        ran = made.run("limits", "apply", str(file))
        assert ran.exit_code == 0, ran.stderr
        for number in range(KILLS):
            targets = TARGETS[number % len(TARGETS)]
            with Traffic(made.sender, PER_SECOND):
                time.sleep(rng.uniform(0.5, 1.5))
                made.kill(*targets)
            made.start(*targets)
            made.wait_ready()
        eventually(lambda: is_all_published(made), 60, "all is counted and published")
        found = list(crossings_of(made))
        expected = counted_slowly(made)
        assert len(expected) > 40 * len(LEVELS), "the limits are reached"
        assert Counter(found) == Counter(expected)
        states = {
            (record["team_id"], record["limit_id"]): record["state"]
            for record in committed(made, "limit-states")
            if "clock" not in record
        }
        blocked = {(team, limit) for kind, team, limit, _, _ in expected if kind == LIMIT_BLOCKED}
        assert {key for key, state in states.items() if state == "blocked"} == blocked
        made.stop()
