"""What is held for one run, from its admission until it is counted."""

from types import TracebackType
from typing import Final, NamedTuple, Self

from meterstream.producers.delivery import AsyncDelivery, Delivery
from meterstream.producers.exceptions import ProducerError, ReservationEnded

from .amounts import Amounts
from .book import Book, Hold
from .decision import Decision
from .knowledge import Knowledge


class Subjects(NamedTuple):
    """Whose run it is."""

    team: str
    user: str | None
    agent: str | None
    project: str | None
    feature: str | None


class Reservation:
    """Room for one run within its limits, as `reserve` took it. It is true if it was admitted.

    As a context manager it lets go at the block's end of what was not settled within.
    """

    def __init__(
        self,
        book: Book,
        known: Knowledge,
        whose: Subjects,
        decision: Decision,
        hold: Hold | None,
    ) -> None:
        self._book: Final = book
        self._known: Final = known
        self._whose: Final = whose
        self._hold = hold
        self.decision: Final = decision

    @property
    def allowed(self) -> bool:
        """Whether the run was admitted."""
        return self.decision.allowed

    def __bool__(self) -> bool:
        return self.allowed

    def settle(self, actual: Amounts, event: Delivery | AsyncDelivery | int | None = None) -> None:
        """Hold what the run has used, in place of the estimate, until the meter has counted it.

        `event` says which event of the team's partition of `events` tells the use: the receipt that
        `publish` returned (`run.delivery` with the Meter facade), or its offset. An event that is
        refused is never counted, so nothing is held for it any longer. With None, or where the
        broker tells no offset, it is held for `gate_reservation_timeout_s`.

        Raises ReservationEnded if it was settled, released or refused before. After it has expired
        it may still be settled.
        """
        book, partition = self._book, self._known.partition_of(self._whose.team)
        cells = self._known.applicable(*self._whose)
        with book.lock:
            estimated = self._end()
            hold = book.hold(cells, actual)
            book.release(estimated)
        if event is None or partition is None:
            return
        number = partition.number

        def counts_with(offset: int | None) -> None:
            if offset is not None and offset >= 0:  # clients tell an unknown one below 0
                with book.lock:
                    book.wait_for(hold, number, offset)

        if isinstance(event, int):
            counts_with(event)
            return
        ticket = event._ticket

        def settled(error: ProducerError | None) -> None:
            if error is None:
                counts_with(ticket.furthest(number))
                return
            with book.lock:
                book.release(hold)

        ticket.watch(settled)

    def release(self) -> None:
        """Let go of what is held, for a run that did not take place; ReservationEnded as `settle`.

        What was published for it all the same counts, once the meter has counted it.
        """
        with self._book.lock:
            self._book.release(self._end())

    def _end(self) -> Hold:
        """Return what was held, for the last time."""
        hold, self._hold = self._hold, None
        if hold is not None:
            return hold
        why = (
            "was settled or released before"
            if self.allowed
            else f"was refused ({self.decision.rule})"
        )
        raise ReservationEnded(
            f"this reservation {why}, so it holds nothing; reserve once for each run"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._hold is not None:
            self.release()
