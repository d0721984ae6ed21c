"""The field types of all events, with the bounds that every reader relies on.

Amounts are integers. Their bounds are chosen so that sums over the largest cell, team and month
stay within 64 bits, and every single value is exact in JSON readers that use doubles (below 2^53).
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from .sketch import MAX_VALUE
from .times import parse_rfc3339

MAX_TOKENS: Final = 1_000_000_000
MAX_BYTES: Final = 1_000_000_000_000
MAX_CREDITS_MICRO: Final = 1_000_000_000_000
"""A million credits: the most that one run may cost."""
MAX_DURATION_US: Final = MAX_VALUE
MAX_TEXT: Final = 16_384
MAX_TAGS: Final = 10
MAX_QUANTITIES: Final = 5
MAX_QUANTITY: Final = 2**53 - 1
MAX_EVENT_BYTES: Final = 131_072
"""The largest event, as bytes of JSON."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
JSON_MEDIA_TYPE: Final = (
    "[Aa][Pp][Pp][Ll][Ii][Cc][Aa][Tt][Ii][Oo][Nn]/[Jj][Ss][Oo][Nn]"
    rf'( *; *{_WORD}=({_WORD}|"[ !#-\[\]-~]*"))*'
)
"""`application/json` in any case, with parameters such as `; charset=utf-8` (RFC 9110, 8.3.1).

Written so that Python, Rust and JavaScript read it alike. Parameters change nothing: an event is
UTF-8 throughout.
"""
MAX_MEDIA_TYPE: Final = 256

CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _no_control_characters(text: str) -> str:
    if CONTROL_CHARACTERS.search(text):
        raise PydanticCustomError("invalid_text", "holds a control character")
    return text


_IS_JSON: Final = re.compile(JSON_MEDIA_TYPE)


@lru_cache(maxsize=256)
def is_json_media_type(text: str) -> bool:
    """Tell whether a content type is that of JSON. Remembered: a service sends always the same."""
    return _IS_JSON.fullmatch(text) is not None


def _json_media_type(text: str) -> str:
    if not is_json_media_type(text):
        raise PydanticCustomError(
            "invalid_text", "application/json is expected, with or without parameters"
        )
    return text


def _aware_time(value: object) -> object:
    """Turn RFC 3339 text into a moment; take aware datetimes from Python callers as they are."""
    if isinstance(value, str):
        try:
            return parse_rfc3339(value)
        except ValueError as error:
            raise PydanticCustomError("invalid_time", "{reason}", {"reason": str(error)}) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise PydanticCustomError("invalid_time", "a time needs an offset or UTC")
        return value.astimezone(UTC)
    raise PydanticCustomError("wrong_type", "a time is RFC 3339 text")


Time = Annotated[
    datetime,
    BeforeValidator(
        _aware_time,
        json_schema_input_type=Annotated[str, Field(json_schema_extra={"format": "date-time"})],
    ),
]
"""A moment, RFC 3339 with an offset on the wire, UTC inside.

Pydantic writes it as `format_rfc3339` does, and without Python: what a signal handler raises while
an event is written, SystemExit say, would come out of a serializer as an error of its own.
"""

_ONE_LINE: Final = {"pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}
"""What JSON Schema says of text without control characters."""

Id = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
"""The name of something registered: a team, user, agent, project or feature."""
LongId = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
"""A name made by machines: a run, a session, an event."""
UserId = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
"""A user, as the identity provider names them: longer than what is registered here."""
Name = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
"""A free name of a model, provider, product or the like."""
SourceUri = Annotated[
    str,
    Field(min_length=1, max_length=256, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
JsonMediaType = Annotated[
    str,
    Field(
        max_length=MAX_MEDIA_TYPE,
        json_schema_extra={
            "pattern": f"^{JSON_MEDIA_TYPE}$",
            "description": "`application/json`, in any case, with or without parameters",
        },
    ),
    AfterValidator(_json_media_type),
]
"""What `data` is: JSON, since it travels within an event that is."""
Text = Annotated[str, Field(max_length=MAX_TEXT)]
"""Free text: a prompt, an answer, an error message."""
Code = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]

Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]
CreditsMicro = Annotated[int, Field(ge=0, le=MAX_CREDITS_MICRO)]
DurationUs = Annotated[int, Field(ge=0, le=MAX_DURATION_US)]
Quantity = Annotated[int, Field(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]

TagKey = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
TagValue = Annotated[
    str,
    Field(max_length=256, json_schema_extra=_ONE_LINE),
    AfterValidator(_no_control_characters),
]
Tags = Annotated[dict[TagKey, TagValue], Field(max_length=MAX_TAGS)]
Quantities = Annotated[dict[TagKey, Quantity], Field(max_length=MAX_QUANTITIES)]

Operation = Literal["agent_run", "api_call", "feature"]
Status = Literal["completed", "failed", "cancelled"]
Caller = Literal["ui", "api", "schedule"]


class Data(BaseModel):
    """The `data` of an event: strict types, and no field that the contract does not name.

    A misspelt field would otherwise be dropped, and with it usage that somebody pays for.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
