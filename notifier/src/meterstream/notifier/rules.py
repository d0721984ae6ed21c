"""Which events a route brings to its destinations."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from meterstream.schemas.control import LevelPermille
from meterstream.schemas.fields import Id
from meterstream.schemas.registry import MODELS
from meterstream.schemas.thresholds import ThresholdEvent
from meterstream.schemas.topics import THRESHOLDS

TYPES: Final = tuple(MODELS[THRESHOLDS])


def _is_type(name: str) -> str:
    if name not in TYPES:
        raise PydanticCustomError(
            "unknown_type", "one of {types} is expected", {"types": ", ".join(TYPES)}
        )
    return name


EventType = Annotated[str, AfterValidator(_is_type)]
DestinationName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Route(BaseModel):
    """Events that meet all conditions go to all destinations named in `to`.

    A condition that is left out holds for every event; one on something that an event does not
    have, such as a level, does not hold for it.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    to: Annotated[list[DestinationName], Field(min_length=1)]
    types: Annotated[list[EventType], Field(min_length=1)] | None = None
    teams: Annotated[list[Id], Field(min_length=1)] | None = None
    organisations: Annotated[list[Id], Field(min_length=1)] | None = None
    limits: Annotated[list[Id], Field(min_length=1)] | None = None
    least_level_permille: LevelPermille | None = None

    def takes(self, event: ThresholdEvent) -> bool:
        """Tell whether all conditions hold for an event."""
        data = event.data
        level: int | None = getattr(data, "level_permille", None)
        return (
            (self.types is None or event.type in self.types)
            and (self.teams is None or data.team_id in self.teams)
            and (
                self.organisations is None
                or getattr(data, "organisation_id", None) in self.organisations
            )
            and (self.limits is None or getattr(data, "limit_id", None) in self.limits)
            and (
                self.least_level_permille is None
                or (level is not None and level >= self.least_level_permille)
            )
        )
