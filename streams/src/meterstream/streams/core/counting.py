"""What the counted events of a batch amount to: usage, charges and sessions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .corrections import Correction
from .decode import AnyEvent
from .prices import PriceBook
from .pricing import Priced, with_session_time
from .room import CellFull, Room
from .sections import Usage, are_late, encode_usage, measures_of
from .session_time import SessionTime
from .sessions import Session
from .state import PartitionState
from .valid import Valid


@dataclass(frozen=True, slots=True)
class Counting:
    """What was counted."""

    charged: Priced
    """The runs of the batch, and the session time that counted signs charge."""
    usage: Usage
    sessions: tuple[Session, ...]
    """Those that changed."""


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A batch before it is known which of its events count."""

    state: PartitionState
    book: PriceBook
    valid: Valid[AnyEvent]
    offsets: NDArray[np.int64]
    """Of the valid events."""
    runs: Priced
    corrections: Sequence[Correction]

    def count(self, counted: NDArray[np.bool_]) -> Counting:
        """Fold the counted ones of the valid events.

        Raises CellFull if they do not fit into their cells, or one of them into its charge.
        """
        time = self._session_time()
        if len(self.runs.at) < len(self.valid.events):  # else there are runs alone
            for i in time.signs():
                if counted[i]:
                    time.take(*time.look(i))
        if any(span.is_too_dear for span in time.spans):
            raise CellFull
        charged = with_session_time(self.runs, time.spans)
        usage = encode_usage(
            self.state,
            self.offsets[charged.at],
            self.valid.clocks_us[charged.at],
            charged,
            charged.chosen(counted),
            self.corrections,
        )
        return Counting(charged, usage, tuple(time.changed.values()))

    def room(self) -> Room:
        """Return what is asked event by event where `count` found no room."""
        times_us, clocks_us = self.runs.times_us, self.valid.clocks_us
        return Room(
            self.state.cells,
            self.runs,
            measures_of(self.runs),
            ~are_late(self.state, times_us, clocks_us[self.runs.at]),
            self._session_time(),
            ~are_late(self.state, self.valid.times_us, clocks_us),
        )

    def _session_time(self) -> SessionTime:
        horizon_us = self.state.policy.horizon_us
        return SessionTime(self.valid, self.state.sessions.get, horizon_us, self.book)
