"""Up to where a partition's usage was counted: `as_of`, and the heartbeat that tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from meterstream.schemas.journal import Link
from meterstream.schemas.thresholds import Owners, heartbeat_key

from .encoding import encode, time_text


class AsOf(msgspec.Struct, frozen=True, gc=False):
    """The contract's `AsOf`, field by field: a property test holds the two together."""

    events_topic_id: UUID
    generation: int
    partition: int
    journal_offset: int
    events_position: int


class _Heartbeat(msgspec.Struct, gc=False):
    """`LimitHeartbeat`: the same test holds it."""

    partition: int
    owners: str
    as_of: msgspec.Raw
    clock: str
    all_told: bool
    counted: Sequence[AsOf] | msgspec.UnsetType


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a partition's usage was counted, and whose limits follow from it."""

    events_topic_id: UUID
    partition: int
    link: Link
    owners: Owners = "teams"
    counted: Sequence[AsOf] = ()
    """Of organisations: up to where the usage of teams is part of it."""
    all_told: bool = True
    """Whether its generation has told all limits."""

    def as_of(self) -> msgspec.Raw:
        """Return it as the JSON of the contract's `AsOf`."""
        link = self.link
        return msgspec.Raw(
            encode(
                AsOf(
                    self.events_topic_id,
                    link.generation,
                    self.partition,
                    link.prev,
                    link.events_position,
                )
            )
        )

    def heartbeat(self) -> tuple[bytes, bytes]:
        """Return key and value of the heartbeat that tells it."""
        value = _Heartbeat(
            self.partition,
            self.owners,
            self.as_of(),
            time_text(self.link.clock_us),
            self.all_told,
            self.counted if self.owners == "organisations" else msgspec.UNSET,
        )
        return heartbeat_key(self.partition, self.owners).encode(), encode(value)
