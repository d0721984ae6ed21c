"""Delivers notifications of the dead-letter list after all: one attempt each, with the same ids."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from meterstream.schemas.registry import InvalidEvent

from .dead import DeadNotification
from .file import Destination


class Remover(Protocol):
    """Takes notifications off the list."""

    def remove(self, delivery_id: str) -> None:
        """Take one off; KafkaUnavailable if that is not confirmed."""
        ...


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of one notification."""

    letter: DeadNotification
    outcome: Literal["delivered", "failed", "left"]
    reason: str = ""


def retry(
    letters: Iterable[DeadNotification], destinations: Iterable[Destination], remover: Remover
) -> Iterator[Retried]:
    """Try each notification once, and take it off the list if its destination has taken it.

    One whose destination is not in the file any more is left. A kill between delivery and removal
    leaves it on the list: the next retry repeats it with the same id.
    """
    known = {destination.name: destination for destination in destinations}
    for letter in letters:
        destination = known.get(letter.destination)
        if destination is None:
            yield Retried(letter, "left", "the file has no such destination")
            continue
        try:
            notice = letter.notice()
        except InvalidEvent as reason:
            yield Retried(letter, "left", f"its event cannot be read: {reason}")
            continue
        failure = destination.target.parcel(notice, letter.recipients).attempt()
        if failure is not None:
            yield Retried(letter, "failed", failure.error)
            continue
        remover.remove(letter.delivery_id)
        yield Retried(letter, "delivered")
