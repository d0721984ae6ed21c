"""Seeded events by the thousand: valid ones, resends, conflicts, late ones and broken ones.

The same seed gives the same bytes on every machine.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meterstream.schemas.partitions import partition_of
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED
from meterstream.schemas.session import SESSION_ENDED, SESSION_HEARTBEAT, SESSION_STARTED
from meterstream.schemas.times import format_rfc3339, from_us

from .model import DAY_US, HOUR_US, MINUTE_US, Record
from .mutations import MUTATIONS, RUN_MUTATIONS, scramble

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""

Event = dict[str, Any]


@dataclass(frozen=True)
class Mix:
    """How often, of a thousand events, something unusual happens."""

    resends: int = 60
    conflicts: int = 10
    broken: int = 40
    scrambled: int = 40
    late: int = 60
    too_late: int = 10
    ahead: int = 20
    elsewhere: int = 10
    starts: int = 30
    sessions: int = 40
    gaps: int = 10
    skewed: int = 2


VALID_ONLY = Mix(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Generator:
    """Makes the records of one partition."""

    def __init__(
        self, seed: int, *, partition: int = 0, partitions: int = 4, mix: Mix | None = None
    ) -> None:
        self._random = random.Random(seed)
        self._mix = mix or Mix()
        self._number = 0
        names = [f"team-{i}" for i in range(40 * partitions)]
        self.teams = [t for t in names if partition_of(t, partitions) == partition][:6]
        self._strangers = [t for t in names if partition_of(t, partitions) != partition][:6]
        self._sent: list[Event] = []

    def records(
        self, count: int, *, start_us: int = START_US, step_us: int = 40_000, first_offset: int = 0
    ) -> Iterator[Record]:
        """Yield `count` records, whose log times are about `step_us` apart and not in order."""
        offset, clock_us = first_offset, start_us
        for _ in range(count):
            if self._happens(self._mix.gaps):
                offset += self._random.randint(1, 3)
            clock_us += self._random.randint(0, 2 * step_us)
            log_time_us = clock_us - self._random.choice((0, 0, 0, 1_000, 700_000))
            if self._happens(self._mix.skewed):
                log_time_us += self._random.choice((5 * MINUTE_US, HOUR_US, 3_650 * DAY_US))
            yield Record(offset, log_time_us, self.value(clock_us))
            offset += 1

    def value(self, now_us: int) -> bytes | None:
        """Return the value of the next record, sent at about `now_us`."""
        mix = self._mix
        if self._sent and self._happens(mix.resends):
            return self._resend()
        event = self._event(self._event_time_us(now_us))
        if self._happens(mix.elsewhere):
            event["data"]["team_id"] = self._random.choice(self._strangers)
        if self._happens(mix.broken):
            ways = list(MUTATIONS.values())
            if event["type"] == RUN_COMPLETED:
                ways += RUN_MUTATIONS.values()
            return self._random.choice(ways).apply(event)
        if self._happens(mix.scrambled):
            return scramble(encode(event), self._random)
        self._sent.append(event)
        return encode(event)

    def _resend(self) -> bytes:
        event: Event = json.loads(json.dumps(self._random.choice(self._sent[-2_000:])))
        if self._happens(1000 * self._mix.conflicts // max(1, self._mix.resends)):
            change = self._random.choice(("time", "tokens", "type"))
            if change == "time":
                event["time"] = event["time"].replace("Z", "+00:00").replace(":0", ":1", 1)
            elif change == "tokens" and event["type"] == RUN_COMPLETED:
                event["data"]["output_tokens"] = event["data"].get("output_tokens", 0) + 1
            else:
                event["data"]["user_id"] = "somebody-else"
            return encode(event)
        dressing = self._random.randrange(4)
        if dressing == 0:
            return encode(event)
        if dressing == 1:
            return json.dumps(event, indent=1, sort_keys=True).encode()
        if dressing == 2:
            event["time"] = event["time"].replace("Z", "+00:00")
            return encode({"traceparent": "00-x", **event})
        return encode({**event, "data": {**event["data"], "user_id": event["data"].get("user_id")}})

    def _event_time_us(self, now_us: int) -> int:
        mix, rng = self._mix, self._random
        if self._happens(mix.late):
            return now_us - rng.randint(10 * MINUTE_US, 3 * HOUR_US)
        if self._happens(mix.too_late):
            return now_us - rng.randint(DAY_US - MINUTE_US, 3 * DAY_US)
        if self._happens(mix.ahead):
            return now_us + rng.randint(4 * MINUTE_US, 6 * MINUTE_US)
        return now_us - rng.randint(0, 90_000_000)

    def _event(self, time_us: int) -> Event:
        rng = self._random
        self._number += 1
        team = rng.choice(self.teams)
        event: Event = {
            "specversion": "1.0",
            "id": f"e-{self._number}",
            "source": rng.choice(("/gateway", "urn:svc:agents")),
            "time": format_rfc3339(from_us(time_us)),
        }
        if self._happens(self._mix.sessions):
            return event | self._session(team)
        started_us = time_us - rng.choice((0, rng.randint(0, 10_000_000), rng.randint(0, 10**10)))
        data = self._run(team, started_us)
        if self._happens(self._mix.starts):
            return event | {"type": RUN_STARTED, "data": data}
        return event | {"type": RUN_COMPLETED, "data": data | self._outcome(started_us, time_us)}

    def _run(self, team: str, started_us: int) -> Event:
        rng = self._random
        data: Event = {
            "team_id": team,
            "run_id": f"r-{self._number}",
            "operation": rng.choice(("agent_run", "agent_run", "api_call", "feature")),
            "started_at": format_rfc3339(from_us(started_us)),
        }
        user = rng.randrange(12)
        optional: Event = {
            "user_id": f"user-{user}",
            "agent_id": f"agent-{user % 5}",
            "project_id": f"project-{user % 3}",
            "model": f"model-{user % 4}",
            "provider": f"provider-{user % 2}",
            "feature_id": f"feature-{user % 2}",
            "product": rng.choice(("studio", "büro", "工作室", "x y\t".strip())),
            "caller": rng.choice(("ui", "api", "schedule", None)),
            "input": rng.choice(('say "hi"\n', "ünïcode 😀", "[[[{{{")),
            "tags": {"env": "prod", "région": "eu"},
        }
        data |= {name: value for name, value in optional.items() if rng.random() < 0.7}
        return data

    def _outcome(self, started_us: int, time_us: int) -> Event:
        rng = self._random
        size = 10 ** rng.randrange(7)
        tokens_in, tokens_out = rng.randrange(size), rng.randrange(size)
        optional: Event = {
            "ended_at": format_rfc3339(
                from_us(rng.randint(max(started_us, time_us - 5 * MINUTE_US), time_us))
            ),
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "cached_tokens": rng.randint(0, tokens_in),
            "reasoning_tokens": rng.randint(0, tokens_out),
            "latency_us": rng.randrange(10 ** rng.randrange(1, 10)),
            "time_to_first_token_us": rng.randrange(10 ** rng.randrange(1, 8)),
            "request_bytes": rng.randrange(10 ** rng.randrange(1, 9)),
            "response_bytes": rng.randrange(10 ** rng.randrange(1, 9)),
            "error_message": "it broke",
            "quantities": {"images": rng.randint(-5, 5)},
        }
        outcome = {name: value for name, value in optional.items() if rng.random() < 0.8}
        if "input_tokens" not in outcome:
            outcome.pop("cached_tokens", None)
        if "output_tokens" not in outcome:
            outcome.pop("reasoning_tokens", None)
        if "latency_us" in outcome and "time_to_first_token_us" in outcome:
            whole_us = outcome["latency_us"]
            outcome["time_to_first_token_us"] = min(outcome["time_to_first_token_us"], whole_us)
        if rng.random() < 0.1:
            outcome["credits_micro"] = rng.randrange(10 ** rng.randrange(1, 12))
        status = rng.choices(("completed", "failed", "cancelled"), (90, 8, 2))[0]
        return outcome | {"status": status}

    def _session(self, team: str) -> Event:
        rng = self._random
        data: Event = {"team_id": team, "session_id": f"s-{rng.randrange(40)}", "user_id": "user-1"}
        kind = rng.choice((SESSION_STARTED, SESSION_HEARTBEAT, SESSION_HEARTBEAT, SESSION_ENDED))
        if kind == SESSION_STARTED:
            data |= {"application": "notebook", "machine_size": "large", "release": "1.2"}
            data["launch_parameters"] = {"gpu": "yes"}
        elif kind == SESSION_ENDED:
            data |= {"status": "failed", "error_code": "OOM"}
        elif rng.random() < 0.1:
            data["machine_size"] = rng.choice(("small", "huge"))
        if rng.random() < 0.2:
            data["agent_id"] = f"agent-{rng.randrange(5)}"
        return {"type": kind, "data": data}

    def _happens(self, permille: int) -> bool:
        return self._random.randrange(1000) < permille


def make_records(
    seed: int,
    count: int,
    *,
    partition: int = 0,
    partitions: int = 4,
    mix: Mix | None = None,
    step_us: int = 40_000,
) -> list[Record]:
    """Return `count` seeded records of one partition, with gaps between their offsets."""
    generator = Generator(seed, partition=partition, partitions=partitions, mix=mix)
    return list(generator.records(count, step_us=step_us))


def encode(event: Event) -> bytes:
    """Return an event as compact JSON in UTF-8, as services send it."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def rate_card(version: int = 1, effective_us: int = START_US - DAY_US, **prices: int) -> bytes:
    """Return a default rate card, with lines of different specificity."""
    lines: list[Event] = [
        {
            "run_micro": 100,
            "input_micro_per_1k": 1_500,
            "output_micro_per_1k": 6_001,
            "request_micro_per_mb": 7,
            "cost": {"run_micro": 40, "input_micro_per_1k": 250, "output_micro_per_1k": 1_001},
            **prices,
        },
        {"model": "model-1", "input_micro_per_1k": 333, "cached_micro_per_1k": 33},
        {
            "model": "model-1",
            "provider": "provider-1",
            "output_micro_per_1k": 777,
            "reasoning_micro_per_1k": 999,
            "response_micro_per_mb": 1_500_001,
            "amount": {"output_micro_per_1k": 7_771, "request_micro_per_mb": 3},
        },
        {"operation": "api_call", "run_micro": version},
        {"operation": "feature", "feature_id": "feature-1", "run_micro": 5_000_000},
        {"agent_type": "researcher", "run_micro": 9_999_999},
    ]
    return encode(
        {
            "specversion": "1.0",
            "type": "meterstream.rate-card.published.v1",
            "id": f"card-{version}",
            "source": "/admin",
            "time": format_rfc3339(from_us(effective_us - DAY_US)),
            "data": {
                "name": "default",
                "version": version,
                "effective_from": format_rfc3339(from_us(effective_us)),
                "prices": lines,
                "currency": "EUR",
                "session_micro_per_second": {"large": 333 * version, "huge": 10**10},
                "session_cost_micro_per_second": {"large": 100},
                "agent_type_multiplier_permille": {"researcher": 1_337, "assistant": 250},
                "premium_multiplier_permille": 2_500,
            },
        }
    )


def agent(number: int, agent_type: str) -> bytes:
    """Return the registration of one of the agents that the generated runs name."""
    data = {"agent_id": f"agent-{number}", "name": "a", "agent_type": agent_type}
    data |= {"created_by": "user-1", "created_at": format_rfc3339(from_us(START_US))}
    return _catalog_entry("agent.registered", data)


def feature(number: int, *, premium: bool) -> bytes:
    """Return the registration of one of the features that the generated runs name."""
    data = {"feature_id": f"feature-{number}", "name": "f", "premium": premium}
    return _catalog_entry("feature.registered", data)


def _catalog_entry(kind: str, data: Event) -> bytes:
    return encode(
        {
            "specversion": "1.0",
            "type": f"meterstream.{kind}.v1",
            "id": "entry",
            "source": "/admin",
            "time": format_rfc3339(from_us(START_US)),
            "data": data,
        }
    )
