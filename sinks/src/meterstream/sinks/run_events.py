"""Takes counted events apart for the history. The meter has validated them before."""

from typing import Final

import msgspec

from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED

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
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    latency_us: int | None = None
    time_to_first_token_us: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    input: str | None = None
    output: str | None = None
    tags: dict[str, str] | None = None
    quantities: dict[str, int] | None = None


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
