"""What is sent: runs, with some of them sent again and some broken events between them."""

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from random import Random
from typing import Final, NamedTuple

from .broken import break_run
from .runs import Run

MILLION: Final = 1_000_000
RESEND_AFTER_MAX: Final = 1000
"""A run is sent again after at most so many others."""


class Kind(Enum):
    """What a message is to the meter."""

    RUN = "run"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


class Message(NamedTuple):
    """One message: its kind, time, key (the team) and bytes, and the tokens it adds."""

    kind: Kind
    time_us: int
    key: str
    value: bytes
    input_tokens: int
    output_tokens: int


def messages(
    runs: Iterable[Run], duplicates_ppm: int, invalid_ppm: int, seed: int
) -> Iterator[Message]:
    """Give every run, and besides resends and broken events.

    Of a million runs `duplicates_ppm` are sent a second time, byte for byte, a little later; and
    `invalid_ppm` are followed by a copy that is broken in one of the ways of `broken`, under an
    identity that is never counted.
    """
    random = Random(f"{seed}:messages")
    again: deque[tuple[int, Run]] = deque()
    broken = 0
    for number, run in enumerate(runs):
        while again and again[0][0] <= number:
            yield _of(Kind.DUPLICATE, again.popleft()[1])
        yield _of(Kind.RUN, run)
        if random.randrange(MILLION) < duplicates_ppm:
            due = number + 1 + random.randrange(RESEND_AFTER_MAX)
            # In the order they were drawn: what is due earlier waits for the one before it.
            again.append((max(due, again[-1][0]) if again else due, run))
        if random.randrange(MILLION) < invalid_ppm:
            yield Message(Kind.INVALID, run.time_us, run.team_id, break_run(run, broken), 0, 0)
            broken += 1
    for _, run in again:
        yield _of(Kind.DUPLICATE, run)


def _of(kind: Kind, run: Run) -> Message:
    return Message(kind, run.time_us, run.team_id, run.value, run.input_tokens, run.output_tokens)
