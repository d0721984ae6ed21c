"""How long an audit waits for the pipeline to reach the offsets that it has fixed."""

import time
from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.25
LOOK_S: Final = 1.0
"""Less than this between two pauses is a look at what is awaited, and counts as waiting too."""


class Patience:
    """A budget of waiting, shared by all stages. Time that is spent on work is not counted."""

    def __init__(
        self,
        timeout_s: float,
        tell: Callable[[str], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.timeout_s = timeout_s
        self._left_s = timeout_s
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._paused_until: float | None = None

    def wait(self, for_what: str) -> bool:
        """Pause once and return True, or return False at once if the budget is used up."""
        now = self._clock()
        if self._paused_until is not None and now - self._paused_until < LOOK_S:
            self._left_s -= now - self._paused_until
        if self._left_s <= 0:
            return False
        self._tell(f"{for_what} ({self._left_s:.0f} s left)")
        pause_s = min(PAUSE_S, self._left_s)
        self._sleep(pause_s)
        self._left_s -= pause_s
        self._paused_until = self._clock()
        return True
