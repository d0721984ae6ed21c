"""Trying again: as long as it takes, until told to stop."""

import threading
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from confluent_kafka import KafkaError, KafkaException

from meterstream.sinks import retry
from meterstream.sinks.client import error_code, is_row_fault


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_S", 0.002)


def failing(times: int, error: Exception) -> Callable[[], str]:
    """Return a function that fails so many times, and then returns "done"."""
    left = [error] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("away"),
        DatabaseError("Code: 252. DB::Exception: Too many parts"),
        ConnectionResetError("gone"),
        KafkaException(KafkaError(KafkaError._TRANSPORT)),
        OSError(""),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    """Each failure is told, and the result is the last attempt's."""
    told: list[Exception] = []
    result = retry.until_done(
        failing(3, error),
        "the flush",
        threading.Event(),
        told.append,
    )
    assert result == "done"
    assert told == [error] * 3


def test_a_mistake_is_not_tried_again() -> None:
    """What no time mends is raised at once."""
    with pytest.raises(ZeroDivisionError):
        retry.until_done(failing(1, ZeroDivisionError()), "x", threading.Event())
    fatal = KafkaException(KafkaError(KafkaError._FATAL, "no", fatal=True))
    with pytest.raises(KafkaException):
        retry.until_done(failing(1, fatal), "x", threading.Event())


def test_after_the_stop_it_is_given_up_before_long() -> None:
    """A service that is told to stop does not wait for ClickHouse for ever."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(retry.Stopped, match="the flush"):
        retry.until_done(
            failing(10**6, OperationalError("away")),
            "the flush",
            stop,
            patience_s=0.01,
        )


def test_a_success_after_the_stop_counts() -> None:
    """What can still be stored while stopping is stored."""
    stop = threading.Event()
    stop.set()
    attempt = failing(2, OperationalError("away"))
    assert retry.until_done(attempt, "x", stop, patience_s=5) == "done"


def test_a_rows_fault_is_told_from_the_servers() -> None:
    """A violated constraint is a row's; too many parts, no space or no answer are not."""
    assert is_row_fault(DatabaseError("Code: 469. DB::Exception: Constraint"))
    assert not is_row_fault(DatabaseError("Code: 252. DB::Exception: Too many parts"))
    assert not is_row_fault(DatabaseError("connection reset"))
    assert error_code(DatabaseError("code: 57, server response: Code: 57. DB")) == 57
    assert error_code(DatabaseError("nothing")) is None
