"""Kills with -9 while limits are reached and credits used up: all is public once and adds up.

METERSTREAM_TEST_KILLS says how many; fifty are what is promised.
"""

import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from tests.e2e.pipeline import PARTITIONS, Pipeline, Traffic, pipeline
from tests.support.accounts import Granted, books_counted_slowly, books_of_journal, grant
from tests.support.beside import Beside
from tests.support.craft import card, encode
from tests.support.model import Counted, Rules
from tests.support.services import read_decided
from tests.support.slow_count import Log, read_topic, slow_count
from tests.support.stack import ClickHouseAddress
from tests.support.told import told_states
from tests.support.waiting import eventually

from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted
from meterstream.schemas.thresholds import (
    CREDITS_EXHAUSTED,
    LIMIT_BLOCKED,
    LIMIT_RESET,
    THRESHOLD_REACHED,
)
from meterstream.schemas.times import to_us
from meterstream.schemas.topics import CATALOG, EVENTS, THRESHOLDS
from meterstream.schemas.verdicts import Verdict

KILLS = max(2, int(os.environ.get("METERSTREAM_TEST_KILLS", "4")))
PER_SECOND = 2_000
LEVELS = (50, 80, 100)
TARGETS = (("meter",), ("publisher",), ("meter", "publisher"))
TEAMS = [f"team-{number}" for number in range(20)]
PAYING, ENDED, RICH = TEAMS[:5], TEAMS[5:10], TEAMS[10:15]
"""Credits of the first two are used up; the first get more. The last five teams have no account."""

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


def grants() -> list[Granted]:
    """Return what teams have before they use anything."""
    found = []
    for team in (*PAYING, *ENDED, *RICH):
        found.append(Granted(team, "reward", "reward", 30_000, 50))
        amount = 10**12 if team in RICH else 100_000
        found.append(Granted(team, "funded", "funded", amount))
    return found


TOP_UPS = [Granted(team, "more", "top_up", 10**12) for team in PAYING]


def crossings_of(made: Pipeline) -> Iterator[Crossing]:
    """Yield each crossing as a reader of committed data gets it."""
    for record in committed(made, "thresholds"):
        data = record["data"]
        assert record["type"] != LIMIT_RESET or data["limit_id"] == "credits"
        if record["type"] in (THRESHOLD_REACHED, LIMIT_BLOCKED, CREDITS_EXHAUSTED):
            place = data["team_id"], data.get("limit_id", "credits"), data.get("level_permille", 0)
            yield record["type"], *place, data["cause"]["offset"]


def committed(made: Pipeline, name: str) -> Iterator[dict[str, Any]]:
    """Yield the committed records of a topic."""
    for log in read_topic(made.kafka, made.prefix + name):
        for record in log.records:
            if record.value is not None:
                yield json.loads(record.value)


def crossed_slowly(logs: list[Log], counted: dict[int, Counted]) -> set[Crossing]:
    """Return the crossings of limits, one run and one limit at a time."""
    used: Counter[Limited] = Counter()
    found: set[Crossing] = set()
    wanted = limits()
    for log in logs:
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


def govern(made: Pipeline, directory: Path) -> None:
    """Have a price, limits and credits in force before anything is used."""
    producer = Producer({"bootstrap.servers": made.kafka})
    price = card(prices=[{"run_micro": 333, "input_micro_per_1k": 77_777}])
    producer.produce(made.prefix + CATALOG, encode(price), key="rate-card/default/1")
    assert producer.flush(30) == 0
    eventually(
        lambda: read_decided(made.kafka, made.prefix).catalog_entries == PARTITIONS,
        120,
        "all partitions know the price",
    )
    file = directory / "limits.yaml"
    file.write_text(yaml.safe_dump({"limits": [limit.to_yaml() for limit in limits()]}))
    ran = made.run("limits", "apply", str(file), "--no-wait")
    assert ran.exit_code == 0, ran.stderr
    grant(made.kafka, made.prefix, grants(), to_us(datetime.now(UTC)))
    states = len(limits()) + len({one.team for one in grants()})
    eventually(
        lambda: len(told_states(made.kafka, made.prefix)[0]) == states, 120, "all is in force"
    )


def told_blocked(made: Pipeline) -> set[tuple[str, str]]:
    """Return what is blocked by the last states that are public: team and limit."""
    states, _ = told_states(made.kafka, made.prefix)
    found = [state for state in states.values() if state and state.state == "blocked"]
    return {(state.team_id or "", state.limit_id) for state in found}


def used_up(made: Pipeline) -> set[str]:
    """Return the teams of which it is public that their credits were used up."""
    told = committed(made, THRESHOLDS)
    return {one["data"]["team_id"] for one in told if one["type"] == CREDITS_EXHAUSTED}


def resets(made: Pipeline) -> list[str]:
    """Return the teams whose credits admit again."""
    told = [one for one in committed(made, THRESHOLDS) if one["type"] == LIMIT_RESET]
    assert all(one["data"]["reason"] == "credited" for one in told)
    return [one["data"]["team_id"] for one in told]


@pytest.mark.timeout(600 + 30 * KILLS)
def test_kills(
    kafka: str, prefix: str, clickhouse: ClickHouseAddress, database: str, tmp_path: Path
) -> None:
    """Whatever is killed in between: crossings, books and gates are as the slow count has them."""
    rng = random.Random(7)
    subjects = [f"{limit.team}/{limit.user or ''}" for limit in limits()]
    follow = ("tests.support.gate_watch", kafka, prefix, *subjects)
    steady = Beside(follow[0], tmp_path / "steady", *follow[1:])
    reader = Beside(
        "tests.support.threshold_reader", tmp_path / "reader", kafka, prefix + THRESHOLDS
    )
    gates: list[tuple[Beside, set[tuple[str, str]]]] = []
    with pipeline(kafka, prefix, clickhouse, database, tmp_path) as made, ExitStack() as stack:
        stack.callback(steady.kill)
        stack.callback(reader.kill)
        made.start("publisher", "meter")
        made.wait_ready()
        govern(made, tmp_path)
        reader.start()
        steady.start()
        for number in range(KILLS):
            targets = TARGETS[number % len(TARGETS)]
            blocked = told_blocked(made)
            gate = Beside(follow[0], tmp_path / f"gate-{number}", *follow[1:])
            stack.callback(gate.kill)
            gates.append((gate, blocked))
            gate.start()
            if number == KILLS // 2:
                eventually(lambda: set(PAYING) <= used_up(made), 120, "credits are used up")
            with Traffic(made.sender, PER_SECOND):
                time.sleep(rng.uniform(0.5, 1.5))
                if number == KILLS // 2:
                    grant(kafka, prefix, TOP_UPS, to_us(datetime.now(UTC)))
                made.kill(*targets)
                reader.kill()
            reader.start()
            made.start(*targets)
            made.wait_ready()
            gate.kill()
        # A slow machine has sent less than is needed to reach the limits.
        made.sender.send(max(1, KILLS * PER_SECOND - made.sender.sent.runs))
        eventually(lambda: is_all_published(made), 120, "all is counted and published")
        check(made, steady, reader, gates)
        made.stop()


def check(
    made: Pipeline,
    steady: Beside,
    reader: Beside,
    gates: list[tuple[Beside, set[tuple[str, str]]]],
) -> None:
    """Hold what is public, in the books and known to others against the slow count."""
    logs = read_topic(made.kafka, made.prefix + EVENTS)
    counted = slow_count(made.kafka, Rules(partitions=PARTITIONS), prefix=made.prefix)
    found = books_of_journal(made.kafka, made.prefix)
    books, exhausted = books_counted_slowly(logs, counted, [*grants(), *TOP_UPS], found.taken_at)
    assert found.accounts == books.accounts
    assert found.grants == books.grants
    assert found.draws == books.draws
    expected = crossed_slowly(logs, counted)
    assert len(expected) > 40 * len(LEVELS), "the limits are reached"
    for team in (*PAYING, *ENDED):
        (offset,) = exhausted.pop(team)
        expected.add((CREDITS_EXHAUSTED, team, "credits", 0, offset))
    assert not exhausted
    assert Counter(crossings_of(made)) == Counter(expected)
    assert sorted(resets(made)) == sorted(PAYING)
    blocked = {(team, limit) for kind, team, limit, *_ in expected if kind == LIMIT_BLOCKED}
    blocked |= {(team, "credits") for team in ENDED}
    assert told_blocked(made) == blocked
    states, _ = told_states(made.kafka, made.prefix)
    accounts = [one for one in states.values() if one and one.limit_id == "credits"]
    balances = {one.team_id: -one.used for one in accounts}
    assert balances == {team: account[0] for team, account in books.accounts.items()}
    check_gates(steady, gates, blocked)
    check_reader(made, reader)


def check_gates(
    steady: Beside, gates: list[tuple[Beside, set[tuple[str, str]]]], blocked: set[tuple[str, str]]
) -> None:
    """No gate admits what was blocked before, but for credits that were granted."""
    topped_up = {(team, "credits") for team in PAYING}

    def known() -> set[tuple[str, str]]:
        return set(pairs(steady, "blocked")) - set(pairs(steady, "admits"))

    eventually(lambda: known() == blocked, 60, "the gate knows what is blocked")
    assert sorted(pairs(steady, "admits")) == sorted(topped_up)
    for gate, before in gates:
        lines = gate.lines()
        if lines:  # it lived long enough to be ready
            assert before - topped_up <= set(map(tuple, lines[0]["blocked"]))
            assert set(pairs(gate, "admits")) <= topped_up


def pairs(gate: Beside, what: str) -> list[tuple[str, str]]:
    """Return the team and limit of each time that a gate changed its answer so."""
    return [(team, limit) for line in gate.lines() for team, limit in line[what]]


def check_reader(made: Pipeline, reader: Beside) -> None:
    """What was acted upon is all that is public, in its order, and repeated after a kill alone."""
    public = {
        (log.partition, record.offset): json.loads(record.value)["id"]
        for log in read_topic(made.kafka, made.prefix + THRESHOLDS)
        for record in log.records
        if record.value is not None
    }

    def acted_upon() -> dict[tuple[int, int], str]:
        return {(partition, offset): event_id for partition, offset, event_id in reader.lines()}

    eventually(lambda: len(acted_upon()) >= len(public), 120, "the reader has come to the end")
    assert acted_upon() == public
    ids = list(public.values())
    assert len(set(ids)) == len(ids)
    order: dict[int, list[int]] = defaultdict(list)
    for partition, offset, _ in reader.lines():
        order[partition].append(offset)
    for offsets in order.values():
        first = list(dict.fromkeys(offsets))
        assert first == sorted(first)
    assert sum(map(len, order.values())) - len(ids) <= KILLS
