"""Rows made into run events, byte for byte the same for the same seed, rows and end."""

import json
from collections.abc import Iterable, Iterator
from random import Random
from typing import Final, NamedTuple

from meterstream.schemas.fields import MAX_DURATION_US
from meterstream.schemas.run import RUN_COMPLETED
from meterstream.schemas.times import format_rfc3339, from_us

from .population import Population, Sizes
from .trace import TraceRow, Value

FIRST_TOKEN_BASE_US: Final = 120_000
FIRST_TOKEN_US_AN_INPUT_TOKEN: Final = 70
LATENCY_US_AN_OUTPUT_TOKEN: Final = 14_000
STALL_ONE_IN: Final = 64
"""One run in so many stalls, and takes eight times as long: latencies have heavy tails."""


class Run(NamedTuple):
    """A run event, ready to be sent: its time, team (the key) and bytes, and what it counts."""

    line: int
    time_us: int
    team_id: str
    value: bytes
    input_tokens: int
    output_tokens: int


def encode(event: dict[str, object]) -> bytes:
    """Return an event as compact JSON in UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


class RunMaker:
    """Makes run events of rows. What a row does not name is drawn from the seed.

    Each drawn thing has a stream of its own and is drawn for every row, named or not, so a
    column more in a trace changes nothing else.
    """

    def __init__(self, sizes: Sizes, seed: int, source: str) -> None:
        self._source = source
        self._population = Population(sizes, seed)
        self._latencies = Random(f"{seed}:latencies")

    def make(self, rows: Iterable[TraceRow], shift_us: int) -> Iterator[Run]:
        """Make one event of each row, its time moved by `shift_us` microseconds."""
        for number, row in enumerate(rows):
            yield self._make(number, row, shift_us)

    def _make(self, number: int, row: TraceRow, shift_us: int) -> Run:
        named = row.fields
        caller = self._population.draw()
        input_tokens = int(named.get("input_tokens", 0))
        output_tokens = int(named.get("output_tokens", 0))
        first_token_us, latency_us = self._latency(input_tokens, output_tokens)
        if "latency_us" in named:
            latency_us = int(named["latency_us"])
            first_token_us = min(first_token_us, latency_us)
        else:
            latency_us = max(latency_us, int(named.get("time_to_first_token_us", 0)))
        event_id = str(named.get("id", f"{number:09d}"))
        ended_us = row.time_us + shift_us
        data: dict[str, Value] = {
            "team_id": caller.team_id,
            "run_id": f"run-{event_id}"[:128],
            "operation": "agent_run",
            "started_at": format_rfc3339(from_us(ended_us - min(latency_us, MAX_DURATION_US))),
            "status": "completed",
            "user_id": caller.user_id,
            "agent_id": caller.agent_id,
            "model": caller.model,
            "provider": caller.provider,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "latency_us": latency_us,
            "time_to_first_token_us": first_token_us,
        }
        if "model" in named:
            del data["provider"]  # a made-up provider would contradict the trace's model
        data |= {name: value for name, value in named.items() if name != "id"}
        event: dict[str, object] = {
            "specversion": "1.0",
            "id": event_id,
            "source": self._source,
            "type": RUN_COMPLETED,
            "time": format_rfc3339(from_us(ended_us)),
            "data": data,
        }
        return Run(
            line=row.line,
            time_us=ended_us,
            team_id=str(data["team_id"]),
            value=encode(event),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )

    def _latency(self, input_tokens: int, output_tokens: int) -> tuple[int, int]:
        # Whole numbers only: a logarithm may differ in its last bit from machine to machine,
        # and then the same run would not be the same bytes.
        bits = self._latencies.getrandbits(32)
        slow = 8 if bits >> 16 & (STALL_ONE_IN - 1) == 0 else 1
        first_permille = 600 + (bits & 1023)
        rest_permille = 700 + (bits >> 22 & 1023)
        first_us = FIRST_TOKEN_BASE_US + FIRST_TOKEN_US_AN_INPUT_TOKEN * input_tokens
        first_us = first_us * first_permille * slow // 1000
        rest_us = LATENCY_US_AN_OUTPUT_TOKEN * output_tokens * rest_permille // 1000
        latency_us = min(first_us + rest_us, MAX_DURATION_US)
        return min(first_us, latency_us), latency_us
