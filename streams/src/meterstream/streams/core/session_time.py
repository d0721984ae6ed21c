"""Session time: what each sign of a session charges for the time since the one before.

Time is that of the partition's clock, so it neither runs backwards nor depends on the clock of
whoever sends the signs. What a sign charges is counted at the sign's event time, like a run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from meterstream.schemas.fields import MAX_CREDITS_MICRO
from meterstream.schemas.pricing import SessionToPrice, price_session
from meterstream.schemas.rows import CELL_SUMS, SESSION_OPERATION

from .cells import CellKey
from .decode import SESSION_EVENTS, AnyEvent
from .policy import MINUTE_US
from .prices import UNPRICED_CARD, PriceBook
from .sessions import Session, SessionKey, charged_time_us, follow, is_forgotten
from .valid import Valid

TOO_DEAR: Final = f"the session's time would cost more than {MAX_CREDITS_MICRO} millionths"


@dataclass(frozen=True, slots=True)
class Span:
    """Session time that one sign charges."""

    at: int
    """Position of the sign among the valid events."""
    time_us: int
    """Event time of the sign, at which it is counted."""
    key: CellKey
    session_id: str
    session_us: int
    card: int
    """Which of the book's cards priced it; UNPRICED_CARD for none."""
    credits_micro: int
    amount_micro: int
    cost_micro: int
    multiplier_ppm: int

    @property
    def sums(self) -> list[int]:
        """What it adds to its cell, in the order of `rows.CELL_SUMS`."""
        added = {
            "unpriced_runs": int(self.card == UNPRICED_CARD),
            "credits_micro": self.credits_micro,
            "session_us": self.session_us,
            "amount_micro": self.amount_micro,
            "cost_micro": self.cost_micro,
        }
        return [added.get(column.name, 0) for column in CELL_SUMS]

    @property
    def is_too_dear(self) -> bool:
        """Whether it costs more than one charge may."""
        return max(self.credits_micro, self.amount_micro, self.cost_micro) > MAX_CREDITS_MICRO


class SessionTime:
    """Follows sessions sign by sign from a state that it leaves as it is."""

    def __init__(
        self,
        valid: Valid[AnyEvent],
        before: Callable[[SessionKey], Session | None],
        horizon_us: int,
        book: PriceBook,
    ) -> None:
        self.changed: dict[SessionKey, Session] = {}
        self.spans: list[Span] = []
        self._valid = valid
        self._before = before
        self._horizon_us = horizon_us
        self._book = book

    def signs(self) -> list[int]:
        """Return which of the valid events are signs of sessions."""
        return [i for i, one in enumerate(self._valid.events) if isinstance(one, SESSION_EVENTS)]

    def look(self, i: int) -> tuple[Session, Span | None]:
        """Return the session after the sign at position `i`, and what the sign charges."""
        event, clock_us = self._valid.events[i], int(self._valid.clocks_us[i])
        time_us = int(self._valid.times_us[i])
        data: Any = event.data
        key = (data.team_id, data.session_id)
        before = self.changed.get(key) or self._before(key)
        # Whether it has left memory must not depend on when the state was last tidied.
        if before and is_forgotten(before, clock_us, self._horizon_us):
            before = None
        after = follow(before, event, time_us, clock_us)
        charged_us = charged_time_us(before, event, clock_us)
        if before is None or charged_us <= 0:
            return after, None
        size = before.machine_size or after.machine_size
        span = self._price(i, time_us, after, size, charged_us)
        if span is not None:
            after = replace(after, credits_micro=after.credits_micro + span.credits_micro)
        return after, span

    def take(self, session: Session, span: Span | None) -> None:
        """Take in what `look` returned."""
        self.changed[session.key] = session
        if span is not None:
            self.spans.append(span)

    def _price(
        self, i: int, time_us: int, session: Session, machine_size: str, charged_us: int
    ) -> Span | None:
        number = self._book.number_at(time_us)
        card = None if number < 0 else self._book.cards[number].data
        agent_type = self._book.type_of(session.agent_id)
        price = price_session(
            card,
            SessionToPrice(machine_size=machine_size, elapsed_us=charged_us, agent_type=agent_type),
        )
        if price is None:
            return None
        return Span(
            i,
            time_us,
            _key_of(session, time_us),
            session.session_id,
            charged_us,
            number if price.is_priced else UNPRICED_CARD,
            price.credits_micro,
            price.amount_micro,
            price.cost_micro,
            price.multiplier_ppm,
        )


def _key_of(session: Session, time_us: int) -> CellKey:
    return (
        time_us // MINUTE_US * 60, session.team_id, session.user_id, session.project_id,
        session.agent_id, "", "", "", session.product, SESSION_OPERATION,
    )  # fmt: skip
