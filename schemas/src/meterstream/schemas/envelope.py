"""The CloudEvents 1.0 envelope, structured JSON mode, that every event travels in."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from .fields import JsonMediaType, LongId, Name, SourceUri, Time


class Envelope(BaseModel):
    """What all events share. `time` is the event time: the moment that usage is counted in.

    Extension attributes are allowed, as CloudEvents asks, and ignored. Identity is
    (team, source, id): an event that is sent again keeps all three, and is counted once.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: LongId
    source: SourceUri
    time: Time
    datacontenttype: JsonMediaType | None = None
    dataschema: SourceUri | None = None
    subject: Name | None = None
