"""A call that ends in time, even where the library it calls forgets to."""

import threading
from collections.abc import Callable
from typing import Any


class Overdue(Exception):
    """The call did not return in time. It may still go on, in a thread that nobody waits for."""


def call_within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function(*arguments)` returns, or raise what it raises; Overdue if it hangs.

    Whatever a hanging call works on must not be used again: drop it, so that it is freed when the
    call returns after all.
    """
    results: list[Any] = []
    failures: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function(*arguments))
        except BaseException as failure:  # noqa: BLE001 - raised again by who waits
            failures.append(failure)

    # A daemon: a call that never returns does not keep the process from ending.
    thread = threading.Thread(target=call, name="bounded-call", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise Overdue(f"no answer within {seconds:.0f} s")
    return results[0]
