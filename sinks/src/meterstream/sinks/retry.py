"""Trying again while ClickHouse or Kafka are away: with growing pauses, until told to stop."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import urllib3.exceptions
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException

from .errors import RowsRefused, SchemaOutdated

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
STOP_PATIENCE_S: Final = 10.0
"""How long a flush is still tried after the service was told to stop."""

# What may pass by itself. SchemaOutdated passes when somebody migrates, RowsRefused when somebody
# mends the table.
PASSING: Final = (
    ClickHouseError,
    KafkaException,
    urllib3.exceptions.HTTPError,
    OSError,
    RowsRefused,
    SchemaOutdated,
)

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The service was told to stop while something was still being tried."""


def until_done(
    attempt: Callable[[], Result],
    what: str,
    stop: threading.Event,
    on_retry: Callable[[Exception], None] = lambda error: None,
    patience_s: float | None = None,
) -> Result:
    """Return what `attempt` returns, trying again after errors that may pass.

    Once `stop` is set it is tried for `patience_s` more seconds (STOP_PATIENCE_S if not told),
    then Stopped is raised.
    """
    if patience_s is None:
        patience_s = STOP_PATIENCE_S
    pause_s = FIRST_PAUSE_S
    give_up_at: float | None = None
    while True:
        try:
            return attempt()
        except PASSING as error:
            if isinstance(error, KafkaException) and error.args[0].fatal():
                raise
            log.warning("%s failed, trying again in %.1f s: %s", what, pause_s, _first_line(error))
            on_retry(error)
            if stop.wait(pause_s):
                now = time.monotonic()
                give_up_at = give_up_at or now + patience_s
                if now >= give_up_at:
                    raise Stopped(f"{what} failed until the end: {error}") from error
                time.sleep(min(pause_s, give_up_at - now))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
