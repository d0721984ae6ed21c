"""From an event to the bytes and the key that go to Kafka, or to a clear refusal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from meterstream.schemas.fields import MAX_EVENT_BYTES
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED, RunCompleted, RunStarted
from meterstream.schemas.session import (
    SESSION_ENDED,
    SESSION_HEARTBEAT,
    SESSION_STARTED,
    SessionEnded,
    SessionHeartbeat,
    SessionStarted,
)

from .exceptions import EventTooLarge, InvalidEvent
from .ids import derived_id

Event = RunStarted | RunCompleted | SessionStarted | SessionHeartbeat | SessionEnded
"""What services publish. Catalog and control events have topics, and writers, of their own."""

MODELS: Final = (RunStarted, RunCompleted, SessionStarted, SessionHeartbeat, SessionEnded)

_ANY_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_MOST_FAULTS: Final = 10


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event that keeps to the contract, as it is spooled and sent."""

    event: Event
    key: bytes
    """The team's id: what Kafka's partitioner hashes."""
    value: bytes
    """The CloudEvent, structured mode, compact JSON."""


def encode(event: Event | Mapping[str, Any], source: str | None = None) -> Encoded:
    """Return `event`, a model or the mapping of a CloudEvent, validated and encoded.

    A mapping without `source` gets the given one; without `id` it gets the one that is derived
    from its run or session, so that it is the same in every attempt.
    Raises InvalidEvent, or EventTooLarge past MAX_EVENT_BYTES.
    """
    if not isinstance(event, MODELS):
        event = _validated(event, source)
    value = event.model_dump_json(exclude_none=True).encode()
    if len(value) > MAX_EVENT_BYTES:
        raise EventTooLarge(
            f"{event.type} has {len(value):,} bytes of JSON, and {MAX_EVENT_BYTES:,} are allowed:"
            " shorten input, output or error_message, or leave them out"
        )
    return Encoded(event, event.data.team_id.encode(), value)


def _validated(event: object, source: str | None) -> Event:
    if not isinstance(event, Mapping):
        raise InvalidEvent(
            f"an event is a model of meterstream.schemas or a mapping, not {type(event).__name__}"
        )
    fields = dict(event)
    if source is not None:
        fields.setdefault("source", source)
    if "id" not in fields and (known := _id_of(fields)) is not None:
        fields["id"] = known
    try:
        return _ANY_EVENT.validate_python(fields)
    except ValidationError as error:
        raise InvalidEvent(describe(fields.get("type"), error)) from None


def describe(kind: object, error: ValidationError) -> str:
    """Return one line that names each field at fault and why, and none of its values."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    named = [
        ": ".join(filter(None, (".".join(str(part) for part in fault["loc"][1:]), fault["msg"])))
        for fault in faults[:_MOST_FAULTS]
    ]
    if len(faults) > _MOST_FAULTS:
        named.append(f"and {len(faults) - _MOST_FAULTS} more")
    name = kind if isinstance(kind, str) and kind in _KINDS else "the event"
    return f"{name} breaks the contract: " + "; ".join(named)


_KINDS: Final = {
    RUN_STARTED: ("started", "run_id"),
    RUN_COMPLETED: ("completed", "run_id"),
    SESSION_STARTED: ("session-started", "session_id"),
    SESSION_HEARTBEAT: None,
    SESSION_ENDED: ("session-ended", "session_id"),
}


def _id_of(fields: Mapping[str, Any]) -> str | None:
    """Return the id that follows from the event itself, or None where none does."""
    kind, data = fields.get("type"), fields.get("data")
    rule = _KINDS.get(kind) if isinstance(kind, str) else None
    if rule is None or not isinstance(data, Mapping):
        return None
    prefix, field = rule
    subject = data.get(field)
    return derived_id(prefix, subject) if isinstance(subject, str) and subject else None
