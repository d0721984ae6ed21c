"""How long to wait after a failed attempt, and when to give up."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from the first to the longest one, within bounds of attempts and time."""

    attempts: int
    """A delivery is given up after so many attempts, ..."""
    retry_s: float
    """... or once its first attempt is so long ago, whichever comes first."""
    first_pause_s: float
    longest_pause_s: float
    hold_s: float
    """The longest that a receiver may ask to be left alone."""

    def pause_s(self, failed: int, chance: random.Random) -> float:
        """Return the pause after so many failed attempts, shortened at random by up to a half.

        By chance, so that deliveries that failed together do not come back together.
        """
        doublings = min(failed - 1, 64)  # 2.0 ** more could overflow
        pause_s = min(self.first_pause_s * 2.0**doublings, self.longest_pause_s)
        return pause_s * chance.uniform(0.5, 1.0)

    def is_over(self, failed: int, since_first_s: float) -> bool:
        """Tell whether a delivery with so many failed attempts is to be given up."""
        return failed >= self.attempts or since_first_s >= self.retry_s

    def held_s(self, asked_s: float) -> float:
        """Return how long to leave a receiver alone that asked for `asked_s`."""
        return min(max(asked_s, 0.0), self.hold_s)
