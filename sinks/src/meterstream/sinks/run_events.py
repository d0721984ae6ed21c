"""Takes counted events apart for the history. The meter has validated them before."""

from typing import Annotated, Final

import msgspec

from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""The contract allows less; a log that was damaged may hold more than a column takes."""

RUN_TYPES: Final = {RUN_STARTED: "started", RUN_COMPLETED: "completed"}


class EventData(msgspec.Struct, frozen=True, gc=False):
    """What the history keeps of the `data` of run and session events."""

    team_id: str
    run_id: str | None = None
    operation: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    project_id: str | None = None
    feature_id: str | None = None
    product: str | None = None
    session_id: str | None = None
    model: str | None = None
    provider: str | None = None
    caller: str | None = None
    status: str | None = None
    input_tokens: Int64 | None = None
    output_tokens: Int64 | None = None
    cached_tokens: Int64 | None = None
    reasoning_tokens: Int64 | None = None
    latency_us: Int64 | None = None
    time_to_first_token_us: Int64 | None = None
    request_bytes: Int64 | None = None
    response_bytes: Int64 | None = None
    error_code: str | None = None
    error_message: str | None = None
    input: str | None = None
    output: str | None = None
    tags: dict[str, str] | None = None
    quantities: dict[str, Int64] | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """The envelope of a counted event."""

    id: str
    source: str
    type: str
    time: str
    data: EventData


_DECODER: Final = msgspec.json.Decoder(Event)


def read_event(value: bytes) -> Event | None:
    """Return the event in `value`, or None if it cannot be read."""
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
