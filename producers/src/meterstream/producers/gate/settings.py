"""The settings of gates."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from meterstream.producers.settings import KafkaSettings
from meterstream.schemas.topics import CATALOG, LIMIT_STATES

FailMode = Literal["fail_open", "fail_closed"]
"""What becomes of a check when what is known is too old, or nothing is known yet.

`fail_open`: admitted, unless the limits as last known refuse it in a window that still lasts.
`fail_closed`: refused.
"""

_FIXED: Final = frozenset(
    {
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "metadata.broker.list",
    }
)
"""Settings of librdkafka that a gate's completeness rests on, or that have a field."""


class GateSettings(KafkaSettings):
    """Everything a gate can be told. Times in seconds."""

    _of: ClassVar[str] = "gate"
    _topic: ClassVar[str] = LIMIT_STATES

    gate_fail: FailMode = "fail_open"
    """What becomes of a check when what is known is too old, or nothing is known yet."""
    gate_max_age_s: Annotated[float, Field(ge=8, le=86_400)] = 30.0
    """How old the knowledge of a team's limits may be. Partitions without events tell their time
    every 5 seconds, so it is never much less."""
    gate_processes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many processes admit runs of the same teams, each with a gate of its own. A gate keeps to
    its share of what is left, so that all of them together do not pass a limit."""
    gate_organisation_processes: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """How many processes admit runs of teams of the same organisation, where these are more than
    admit runs of one team; `gate_processes` if absent."""
    gate_settling_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    """With more processes: after how long all gates know what was used, from the reservation to the
    counted event. Set it to the longest usual run and 3 seconds. Limits of organisations are given
    2 seconds more."""
    gate_reservation_timeout_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    """After how long a reservation that nobody settled is given up. Longer than any run takes."""
    gate_clock_margin_s: Annotated[float, Field(ge=0, le=300)] = 5.0
    """By how much this machine's clock may differ from the broker's."""

    @field_validator("gate_organisation_processes")
    @classmethod
    def _not_fewer_than_share_a_team(cls, sharing: int | None, info: ValidationInfo) -> int | None:
        if sharing is not None and sharing < info.data.get("gate_processes", 1):
            raise ValueError(
                "not less than gate_processes: who runs a team runs for its organisation"
            )
        return sharing

    @property
    def catalog_topic(self) -> str:
        """The topic that tells which organisation a team is part of."""
        return self.topic_prefix + CATALOG

    @field_validator("kafka")
    @classmethod
    def _keep_the_guarantees(
        cls, settings: Mapping[str, str | int | bool]
    ) -> Mapping[str, str | int | bool]:
        if broken := sorted(_FIXED.intersection(settings)):
            raise ValueError(f"{', '.join(broken)}: fixed by the SDK, or set by a field of its own")
        return settings
