"""Run events: one agent run, API call or use of a feature, when it starts and when it is done."""

from typing import Final, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from .envelope import Envelope
from .fields import (
    Bytes,
    Caller,
    Code,
    CreditsMicro,
    Data,
    DurationUs,
    Id,
    LongId,
    Name,
    Operation,
    Quantities,
    Status,
    Tags,
    Text,
    Time,
    Tokens,
    UserId,
)
from .times import MICROSECOND

RUN_STARTED: Final = "meterstream.run.started.v1"
RUN_COMPLETED: Final = "meterstream.run.completed.v1"

END_TOLERANCE_US: Final = 5 * 60 * 1_000_000
"""How far `ended_at` may lie from `time`: as far as an event may be ahead of the broker's clock.

Both name the moment at which a run ended. Usage is counted at `time`, so a larger difference would
put it into another hour, day or month than the run's own.
"""
_END_TOLERANCE: Final = END_TOLERANCE_US * MICROSECOND


class _Run(Data):
    """What is known of a run from its start. Whose it is, and what it runs."""

    team_id: Id
    run_id: LongId
    operation: Operation
    started_at: Time
    user_id: UserId | None = None
    agent_id: Id | None = None
    project_id: Id | None = None
    feature_id: Id | None = None
    product: Name | None = None
    session_id: LongId | None = None
    model: Name | None = None
    provider: Name | None = None
    caller: Caller | None = None
    input: Text | None = None
    tags: Tags | None = None


class RunStartedData(_Run):
    """A run has begun. It is kept in the history; usage is counted when the run is completed."""


class RunCompletedData(_Run):
    """A run has ended, well or not, and this is what it used.

    `cached_tokens` are part of `input_tokens` and `reasoning_tokens` part of `output_tokens`,
    as most providers report them; a part that exceeds its whole is refused. Where a provider
    reports them apart, add the part to the whole first.

    `time` is the moment at which the run ended, and usage is counted at it. `ended_at` is the same
    moment: `time` if absent, else within 5 minutes of it. A run ends no earlier than `started_at`
    and lasts seven days at most. `latency_us` is the run's end less `started_at` if absent; if
    present, `time_to_first_token_us` does not exceed it.

    `credits_micro`, when given, is charged as it is, and no rate card is asked.
    """

    status: Status
    ended_at: Time | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    latency_us: DurationUs | None = None
    time_to_first_token_us: DurationUs | None = None
    request_bytes: Bytes = 0
    response_bytes: Bytes = 0
    credits_micro: CreditsMicro | None = None
    error_code: Code | None = None
    error_message: Text | None = None
    output: Text | None = None
    quantities: Quantities | None = None

    @model_validator(mode="after")
    def _parts_within_wholes(self) -> Self:
        if self.cached_tokens > self.input_tokens:
            raise PydanticCustomError("inconsistent", "cached_tokens exceed input_tokens")
        if self.reasoning_tokens > self.output_tokens:
            raise PydanticCustomError("inconsistent", "reasoning_tokens exceed output_tokens")
        first_token_us, latency_us = self.time_to_first_token_us, self.latency_us
        if first_token_us is not None and latency_us is not None and first_token_us > latency_us:
            raise PydanticCustomError("inconsistent", "time_to_first_token_us exceeds latency_us")
        if self.ended_at is not None and self.ended_at < self.started_at:
            raise PydanticCustomError("inconsistent", "ended_at lies before started_at")
        return self


class RunStarted(Envelope):
    """A run has begun."""

    type: Literal["meterstream.run.started.v1"] = RUN_STARTED
    data: RunStartedData


class RunCompleted(Envelope):
    """A run has ended."""

    type: Literal["meterstream.run.completed.v1"] = RUN_COMPLETED
    data: RunCompletedData

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        ended_at = self.data.ended_at or self.time
        duration = ended_at - self.data.started_at
        if duration.total_seconds() < 0:
            raise PydanticCustomError("inconsistent", "time lies before started_at")
        if duration.days >= 7 and duration.total_seconds() > 7 * 86_400:
            raise PydanticCustomError("inconsistent", "a run lasts seven days at most")
        if abs(ended_at - self.time) > _END_TOLERANCE:
            raise PydanticCustomError(
                "inconsistent",
                "time and data.ended_at lie more than 5 minutes apart; usage is counted at time",
            )
        return self
