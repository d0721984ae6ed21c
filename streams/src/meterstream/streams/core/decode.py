"""The hot path's reading of events: the same contract as the models, at a tenth of their cost.

`msgspec` accepts or refuses; whatever it refuses is shown to the models (`parse_event`), which
decide and name the reason. So a reason always comes from the models, and a property test holds
that the fast reader accepts nothing they would refuse.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

from meterstream.schemas.fields import (
    MAX_BYTES,
    MAX_CREDITS_MICRO,
    MAX_DURATION_US,
    MAX_EVENT_BYTES,
    MAX_MEDIA_TYPE,
    MAX_QUANTITIES,
    MAX_QUANTITY,
    MAX_TAGS,
    MAX_TEXT,
    MAX_TOKENS,
    is_json_media_type,
)
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.run import RUN_COMPLETED, RUN_STARTED
from meterstream.schemas.session import SESSION_ENDED, SESSION_HEARTBEAT, SESSION_STARTED
from meterstream.schemas.verdicts import Verdict

_Time = Annotated[datetime, Meta(tz=True)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_LongId = Annotated[str, Meta(min_length=1, max_length=128)]
_UserId = Annotated[str, Meta(min_length=1, max_length=128)]
_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Uri = Annotated[str, Meta(min_length=1, max_length=256)]
_MediaType = Annotated[str, Meta(max_length=MAX_MEDIA_TYPE)]
_Code = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_Bytes = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
_Credits = Annotated[int, Meta(ge=0, le=MAX_CREDITS_MICRO)]
_Duration = Annotated[int, Meta(ge=0, le=MAX_DURATION_US)]
_TagValue = Annotated[str, Meta(max_length=256)]
_Quantity = Annotated[int, Meta(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
_Tags = Annotated[dict[_Id, _TagValue], Meta(max_length=MAX_TAGS)]
_Quantities = Annotated[dict[_Id, _Quantity], Meta(max_length=MAX_QUANTITIES)]
_Extension = str | int | bool | None
_Status = Literal["completed", "failed", "cancelled"]


class _RunData(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    team_id: _Id
    run_id: _LongId
    operation: Literal["agent_run", "api_call", "feature"]
    started_at: _Time
    user_id: _UserId | None = None
    agent_id: _Id | None = None
    project_id: _Id | None = None
    feature_id: _Id | None = None
    product: _Name | None = None
    session_id: _LongId | None = None
    model: _Name | None = None
    provider: _Name | None = None
    caller: Literal["ui", "api", "schedule"] | None = None
    input: _Text | None = None
    tags: _Tags | None = None


class CompletedData(_RunData, gc=False, kw_only=True):
    """`data` of a completed run, as `RunCompletedData`."""

    status: _Status
    ended_at: _Time | None = None
    input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0
    cached_tokens: _Tokens = 0
    reasoning_tokens: _Tokens = 0
    latency_us: _Duration | None = None
    time_to_first_token_us: _Duration | None = None
    request_bytes: _Bytes = 0
    response_bytes: _Bytes = 0
    credits_micro: _Credits | None = None
    error_code: _Code | None = None
    error_message: _Text | None = None
    output: _Text | None = None
    quantities: _Quantities | None = None


class _SessionData(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    team_id: _Id
    session_id: _LongId
    user_id: _UserId | None = None
    agent_id: _Id | None = None
    project_id: _Id | None = None
    product: _Name | None = None
    machine_size: _Code | None = None


class _SessionStartedData(_SessionData, gc=False, kw_only=True):
    application: _Name
    release: _Name | None = None
    launch_parameters: _Tags | None = None


class _SessionEndedData(_SessionData, gc=False, kw_only=True):
    status: _Status = "completed"
    error_code: _Code | None = None


class Event(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The envelope, as `meterstream.schemas.envelope.Envelope`.

    The well-known extension attributes are named, so that events with them are read fast. Events
    with others are shown to the models: `msgspec` would skip such attributes without looking
    whether they are UTF-8 and how deeply they are nested.
    """

    specversion: Literal["1.0"]
    id: _LongId
    source: _Uri
    time: _Time
    datacontenttype: _MediaType | None = None
    dataschema: _Uri | None = None
    subject: _Name | None = None
    traceparent: _Extension = None
    tracestate: _Extension = None
    correlationid: _Extension = None
    partitionkey: _Extension = None


class Completed(Event, gc=False, kw_only=True, tag_field="type", tag=RUN_COMPLETED):
    """A completed run."""

    data: CompletedData


class Started(Event, gc=False, kw_only=True, tag_field="type", tag=RUN_STARTED):
    """A run that began."""

    data: _RunData


class SessionStarted(Event, gc=False, kw_only=True, tag_field="type", tag=SESSION_STARTED):
    """A session that began."""

    data: _SessionStartedData


class SessionHeartbeat(Event, gc=False, kw_only=True, tag_field="type", tag=SESSION_HEARTBEAT):
    """A session that is still up."""

    data: _SessionData


class SessionEnded(Event, gc=False, kw_only=True, tag_field="type", tag=SESSION_ENDED):
    """A session that ended."""

    data: _SessionEndedData


AnyEvent = Completed | Started | SessionStarted | SessionHeartbeat | SessionEnded

SESSION_EVENTS: Final = (SessionStarted, SessionHeartbeat, SessionEnded)
TYPE_NUMBER: Final[dict[type, int]] = {
    Completed: 1,
    Started: 2,
    SessionStarted: 3,
    SessionHeartbeat: 4,
    SessionEnded: 5,
}
"""Tells types apart whose data may look the same."""

_decode = msgspec.json.Decoder(AnyEvent).decode
_content = msgspec.msgpack.Encoder(order="deterministic").encode


class HasData(Protocol):
    """An event of whatever type."""

    @property
    def data(self) -> Struct: ...  # noqa: D102 - as in the contract


class Refused(Exception):
    """An event that the contract does not allow, with its verdict and a detail for its sender."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict
        self.detail = detail


def decode_event(value: bytes | None) -> AnyEvent:
    """Return the event that `value` holds, or raise Refused with the reason the models name.

    Rules that span fields, and control characters, are not looked at here: `check_event` does.
    """
    if value is not None and len(value) <= MAX_EVENT_BYTES:
        try:
            event: AnyEvent = _decode(value)
            if event.datacontenttype is None or is_json_media_type(event.datacontenttype):
                return event
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
    return decode_slowly(value)


def decode_slowly(value: bytes | None) -> AnyEvent:
    """Return the event as the models read it, or raise Refused with the reason they name."""
    try:
        event = parse_event(value)
    except InvalidEvent as error:
        raise Refused(error.verdict, error.detail) from None
    plain = event.model_dump(mode="json", exclude_none=True)
    converted: AnyEvent = msgspec.convert(plain, AnyEvent)
    return converted


def content_of(event: HasData) -> bytes:
    """Return the data of an event in normal form, equal for events that say the same.

    White space, the order of keys and extension attributes make no difference, nor does a field
    that is null instead of absent. Type and time are compared apart.
    """
    return _content(event.data)
