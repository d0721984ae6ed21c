"""Logs on stderr: ours in full, those of the libraries below only where something is wrong."""

import logging
import sys
import time
from typing import Final

REPEAT_SECONDS: Final = 30.0
_NOISY: Final = ("aiokafka", "faust", "mode", "kafka", "asyncio", "venusian")


class NoRepeatedCrash(logging.Filter):
    """Drops Faust's "Crashed" lines: whoever failed has said it before, with its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to let the record through."""
        return "Crashed reason=" not in str(record.msg) and "Thread keepalive" not in str(
            record.msg
        )


class NotAgain(logging.Filter):
    """Lets the same line of the same place through once in a while, however often it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to let the record through."""
        now, place = time.monotonic(), (record.pathname, record.lineno)
        if now - self._seen.get(place, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._seen[place] = now
        return True


def set_up(level: str = "INFO") -> None:
    """Send logs to stderr, one line each with time (UTC), level and where it comes from."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Levels of child loggers do not reach handlers' filters, so the filter sits on the handler.
    not_again = NotAgain()
    handler.addFilter(NoRepeatedCrash())
    handler.addFilter(lambda r: not r.name.startswith(_NOISY) or not_again.filter(r))
    for name in _NOISY:
        logging.getLogger(name).setLevel("ERROR")
    # "Waiting for coordinator" and the like end up in readiness and lag.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel("CRITICAL")
    # Faust names the loggers of its services after the modules they are made in.
    for name in ("meterstream.streams", "__main__"):
        logging.getLogger(name).setLevel("WARNING")
