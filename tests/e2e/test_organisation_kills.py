"""Kills with -9 of either stage: each crossing of an organisation is public once, none missing."""

import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from tests.e2e.pipeline import PARTITIONS, Pipeline, Traffic, pipeline
from tests.support.command import call_command
from tests.support.model import Rules
from tests.support.slow_count import read_topic, slow_count
from tests.support.stack import ClickHouseAddress
from tests.support.waiting import eventually

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.thresholds import LIMIT_BLOCKED, THRESHOLD_REACHED
from meterstream.schemas.times import format_rfc3339
from meterstream.schemas.topics import EVENTS
from meterstream.schemas.verdicts import Verdict

KILLS = int(os.environ.get("METERSTREAM_TEST_KILLS", "3"))
PER_SECOND = 1_000
LEVELS = (50, 80, 100)
TARGETS = (
    ("org-meter", "publisher"),
    ("meter", "org-publisher"),
    ("publisher", "org-publisher"),
    ("meter", "org-meter"),
)
ZONES = {"group": "Asia/Kathmandu", "labs": "UTC"}
CHAINS = {f"team-{n}": ("group",) if n < 4 else ("labs", "group") for n in range(8)}
"""The organisations above each team: labs is part of group. Of the sender's 20 teams the others
are in none."""
STEPS = 10

Crossing = tuple[str, str, str, str, int]
"""Type, organisation, limit, start of the window, level (0 where it is none)."""


@dataclass(frozen=True)
class Limited:
    """A limit of an organisation, as the test sets it."""

    organisation: str
    measure: str
    window: str
    step: int

    @property
    def limit_id(self) -> str:
        """What it is called."""
        return f"{self.measure}-{self.window}-{self.step}"

    @property
    def amount(self) -> int:
        """Some of what is used while half a second passes before each kill, at least."""
        teams = sum(self.organisation in chain for chain in CHAINS.values())
        sent = KILLS * PER_SECOND // 2
        runs = sent * teams // 20 * self.step // STEPS
        return runs if self.measure == "runs" else runs * sent // 4

    def amount_of(self, run: RunCompleted) -> int:
        """Return what a run adds to what it counts."""
        if self.organisation not in CHAINS.get(run.data.team_id, ()):
            return 0
        return 1 if self.measure == "runs" else run.data.input_tokens + run.data.output_tokens

    def start_of(self, time: datetime) -> str:
        """Return the start of the window that holds a time, as events tell it."""
        local = time.astimezone(ZoneInfo(ZONES[self.organisation]))
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        start = day if self.window == "day" else day.replace(day=1)
        return format_rfc3339(start.astimezone(UTC))

    def to_yaml(self) -> dict[str, Any]:
        """Return it as `limits apply` reads it."""
        return {
            "organisation": self.organisation, "id": self.limit_id, "measure": self.measure,
            "window": self.window, "amount": self.amount, "alert": list(LEVELS),
            "enforcement": "hard",
        }  # fmt: skip


LIMITS = [
    Limited(organisation, measure, window, step)
    for organisation in ZONES
    for measure, window in (("runs", "month"), ("tokens", "day"))
    for step in range(1, STEPS + 1)
]


def catalog() -> dict[str, Any]:
    """Return the organisations and their teams, as `catalog publish` reads them."""
    parents = {"labs": {"parent_id": "group"}}
    return {
        "organisations": [
            {"organisation_id": name, "name": name, "zone": zone, **parents.get(name, {})}
            for name, zone in ZONES.items()
        ],
        "teams": [
            {"team_id": team, "organisation_id": chain[0], "name": team, "zone": "UTC"}
            for team, chain in CHAINS.items()
        ],
    }


def committed(made: Pipeline, name: str) -> Iterator[dict[str, Any]]:
    """Yield the committed records of a topic."""
    for log in read_topic(made.kafka, made.prefix + name):
        for record in log.records:
            if record.value is not None:
                yield json.loads(record.value)


@dataclass
class Counted:
    """What the events topic holds, one run and one limit at a time."""

    crossings: set[Crossing]
    used: Counter[tuple[str, str, str]]
    """By organisation, limit and start of the window."""
    last: dict[tuple[str, int], int]
    """The last event that counted for an organisation, by its partition of the events topic."""


def counted_slowly(made: Pipeline) -> Counted:
    """Count what was sent, and note which levels were reached."""
    verdicts = slow_count(made.kafka, Rules(partitions=PARTITIONS), prefix=made.prefix)
    found = Counted(set(), Counter(), {})
    for log in read_topic(made.kafka, made.prefix + EVENTS):
        for record in log.records:
            if verdicts[log.partition].verdicts[record.offset] is not Verdict.COUNTED:
                continue
            run = parse_event(record.value, EVENTS)
            assert isinstance(run, RunCompleted)
            for organisation in CHAINS.get(run.data.team_id, ()):
                found.last[organisation, log.partition] = record.offset
            for limit in LIMITS:
                start = limit.start_of(run.time)
                key = limit.organisation, limit.limit_id, start
                before = found.used[key]
                found.used[key] += limit.amount_of(run)
                for level in LEVELS:
                    if before * 100 < limit.amount * level <= found.used[key] * 100:
                        found.crossings.add((THRESHOLD_REACHED, *key, level * 10))
                        if level == 100:
                            found.crossings.add((LIMIT_BLOCKED, *key, 0))
    return found


def heartbeats(made: Pipeline, owners: str) -> dict[int, dict[str, Any]]:
    """Return the last heartbeat of each partition."""
    return {
        record["partition"]: record
        for record in committed(made, "limit-states")
        if record.get("owners") == owners
    }


def is_all_published(made: Pipeline) -> bool:
    """Tell whether all events are counted by teams, then all that those told organisations."""
    heard = {p: beat["as_of"]["events_position"] for p, beat in heartbeats(made, "teams").items()}
    if [heard.get(partition) for partition in range(PARTITIONS)] != made.ends("events"):
        return False
    heard = {
        p: beat["as_of"]["events_position"] for p, beat in heartbeats(made, "organisations").items()
    }
    # Behind the last event only the end of its transaction may follow.
    return all(
        heard.get(log.partition, 0) > log.records[-1].offset
        for log in read_topic(made.kafka, made.prefix + "org-usage")
        if log.records
    )


def check_thresholds(made: Pipeline, counted: Counted) -> None:
    """Each crossing is public once, and by an event that reaches from below its level to above."""
    usage = {
        (log.partition, record.offset): json.loads(record.value or b"")
        for log in read_topic(made.kafka, made.prefix + "org-usage")
        for record in log.records
    }
    found: Counter[Crossing] = Counter()
    for record in committed(made, "thresholds"):
        data = record["data"]
        if record["type"] not in (THRESHOLD_REACHED, LIMIT_BLOCKED):
            continue
        place = data["organisation_id"], data["limit_id"], data["window_start"]
        found[(record["type"], *place, data.get("level_permille", 0))] += 1
        event = usage[data["as_of"]["partition"], data["cause"]["offset"]]
        assert event["id"] == data["cause"]["id"]
        assert event["data"]["team_id"] == data["cause"]["team_id"]
        assert event["data"]["organisation_id"] == data["organisation_id"]
        told = sum(use[data["measure"]] for use in event["data"]["uses"])
        level = data["amount"] * data.get("level_permille", 1000)
        assert (data["used"] - told) * 1000 < level <= data["used"] * 1000
    assert found == Counter(counted.crossings)


def states(made: Pipeline) -> dict[tuple[str, str], dict[str, Any]]:
    """Return where each limit of an organisation stands, by organisation and limit."""
    return {
        (record["organisation_id"], record["limit_id"]): record
        for record in committed(made, "limit-states")
        if record.get("subject") == "organisation"
    }


def check_states(made: Pipeline, counted: Counted) -> None:
    """Each limit stands at what was counted slowly, and each heartbeat tells how far that is."""
    found = states(made)
    assert found.keys() == {(limit.organisation, limit.limit_id) for limit in LIMITS}
    for place, state in found.items():
        assert state["used"] == counted.used[(*place, state["window_start"])], place
        full = state["used"] >= state["amount"]
        assert state["state"] == ("blocked" if full else "admitting"), place
    beats = heartbeats(made, "organisations")
    told: dict[str, dict[int, int]] = defaultdict(dict)
    for organisation in ZONES:
        beat = beats[partition_of(organisation, PARTITIONS)]
        told[organisation] = {one["partition"]: one["events_position"] for one in beat["counted"]}
    for (organisation, partition), last in counted.last.items():
        assert told[organisation][partition] > last


def set_up(made: Pipeline, directory: Path) -> None:
    """Write catalog and limits: there before any meter is, so none of them has to be waited for."""
    limits = {"limits": [limit.to_yaml() for limit in LIMITS]}
    for words, content in ((("catalog", "publish"), catalog()), (("limits", "apply"), limits)):
        file = directory / f"{words[0]}.yaml"
        file.write_text(yaml.safe_dump(content))
        ran = call_command(*words, str(file), "--no-wait", env=made.environment)
        assert ran.exit_code == 0, ran.stderr


@pytest.mark.timeout(600 + 30 * KILLS)
def test_each_crossing_of_an_organisation_is_public_once(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, tmp_path: Path
) -> None:
    """Whatever is killed in between: as the slow count of the events has them."""
    assert {partition_of(team, PARTITIONS) for team in CHAINS} == set(range(PARTITIONS))
    rng = random.Random(11)
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made:
        set_up(made, tmp_path)
        made.start("publisher", "meter", "org-publisher", "org-meter")
        eventually(lambda: len(states(made)) == len(LIMITS), 120, "all limits are told")
        for number in range(KILLS):
            made.wait_ready()
            targets = TARGETS[number % len(TARGETS)]
            with Traffic(made.sender, PER_SECOND):
                time.sleep(rng.uniform(0.5, 1.5))
                made.kill(*targets)
            made.start(*targets)
        # So that each partition tells how far it is once more, and a slow machine has sent enough.
        made.sender.send(max(200, KILLS * PER_SECOND // 2 - made.sender.sent.runs))
        eventually(lambda: is_all_published(made), 120, "all is counted and published")
        counted = counted_slowly(made)
        assert len(counted.crossings) > 30 * len(LEVELS), "the limits are reached"
        check_thresholds(made, counted)
        check_states(made, counted)
        made.stop()
