"""The well-formed events of a batch."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .columns import times_to_us
from .decode import HasData


class Readable(HasData, Protocol):
    """What all events have, whatever they tell."""

    @property
    def id(self) -> str: ...  # noqa: D102 - as in the contract
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def time(self) -> datetime: ...  # noqa: D102


E = TypeVar("E", bound=Readable)


@dataclass(frozen=True, slots=True)
class Valid(Generic[E]):
    """The well-formed events of a batch, in the order of their offsets. Arrays of one length."""

    events: list[E]
    at: NDArray[np.int64]
    """Position in the batch."""
    times_us: NDArray[np.int64]
    clocks_us: NDArray[np.int64]
    """The partition's clock at the event."""

    @classmethod
    def of(cls, events: list[E], at: NDArray[np.int64], clocks_us: NDArray[np.int64]) -> "Valid[E]":
        """Return events at their positions, given the clocks of the whole batch."""
        return cls(events, at, times_to_us([event.time for event in events]), clocks_us[at])

    def without(self, refused: set[int]) -> "Valid[E]":
        """Return those that were not refused, by their positions here."""
        keep = [i for i in range(len(self.events)) if i not in refused]
        return Valid(
            [self.events[i] for i in keep],
            self.at[keep],
            self.times_us[keep],
            self.clocks_us[keep],
        )
