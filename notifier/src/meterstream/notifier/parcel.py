"""What a destination is given: an event with its fixed id, and what one attempt came to."""

import hashlib
import json
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from meterstream.schemas.thresholds import ThresholdEvent

Kind = Literal["webhook", "email"]
KINDS: Final[tuple[Kind, ...]] = ("webhook", "email")


@dataclass(frozen=True, slots=True)
class Notice:
    """One threshold event for one destination."""

    delivery_id: str
    """The same on every attempt, after every restart: receivers know a repeat by it."""
    event: ThresholdEvent
    value: bytes
    """The event as it stands in the topic."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that did not deliver. `error` holds nothing of what the receiver wrote."""

    error: str
    hold_s: float = 0.0
    """For how long the receiver asks to be left alone."""
    gone: bool = False
    """The receiver says that it wants nothing more."""
    final: bool = False
    """Trying again cannot help."""


class Parcel(Protocol):
    """A notice made ready for its destination."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who has still to get it, where a destination has several recipients."""
        ...

    def attempt(self) -> Failed | None:
        """Try once to deliver, within the timeout; None if the destination has taken it."""
        ...


class Target(Protocol):
    """A way to deliver: a webhook or a mailbox."""

    def parcel(self, notice: Notice, recipients: tuple[str, ...] = ()) -> Parcel:
        """Make a notice ready; for `recipients` alone if some are named."""
        ...


def delivery_id(destination: str, event_id: str) -> str:
    """Return the id of an event's delivery to a destination. It holds no full stop."""
    text = json.dumps([destination, event_id], ensure_ascii=True, separators=(",", ":"))
    return f"ntf_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
