"""Calls that must end in time."""

import threading

import pytest

from meterstream.streams.publisher.bounded import Overdue, call_within


def test_returns_what_the_call_returns() -> None:
    """A call that ends in time gives its result, even if that is None."""
    assert call_within(5.0, divmod, 7, 2) == (3, 1)
    assert call_within(5.0, threading.Event().set) is None


def test_raises_what_the_call_raises() -> None:
    """What a call raises reaches who waits for it."""
    with pytest.raises(ZeroDivisionError):
        call_within(5.0, divmod, 1, 0)


def test_gives_up_a_call_that_hangs() -> None:
    """A call that does not end is given up after its time, and may end later."""
    released, ended = threading.Event(), threading.Event()

    def hang() -> None:
        released.wait()
        ended.set()

    with pytest.raises(Overdue, match="within 0 s"):
        call_within(0.01, hang)
    released.set()
    assert ended.wait(5.0)
