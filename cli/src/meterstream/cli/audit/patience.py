"""How long an audit waits for the pipeline to reach the offsets that it has fixed."""

import time
from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.25


class Patience:
    """A budget of waiting, shared by all stages. Time that is spent on work is not counted."""

    def __init__(
        self,
        timeout_s: float,
        tell: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.timeout_s = timeout_s
        self._left_s = timeout_s
        self._tell = tell
        self._sleep = sleep

    def wait(self, for_what: str) -> bool:
        """Pause once and return True, or return False at once if the budget is used up."""
        if self._left_s <= 0:
            return False
        self._tell(f"{for_what} ({self._left_s:.0f} s left)")
        pause_s = min(PAUSE_S, self._left_s)
        self._sleep(pause_s)
        self._left_s -= pause_s
        return True
