"""Waits for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25


def eventually(condition: Callable[[], _T], timeout_s: float, what: str) -> _T:
    """Call `condition` until it returns something true, and return that.

    An AssertionError of the condition counts as "not yet". Fails with `what`
    and the last value or error when `timeout_s` is over.
    """
    deadline_s = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        last: object
        try:
            value = condition()
        except AssertionError as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {last!r})")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
