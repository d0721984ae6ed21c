"""`main` runs the notifier as a process: settings from the environment, until SIGTERM or SIGINT."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence

from meterstream.schemas import topics as names
from meterstream.schemas.status import PortTaken, StatusServer
from meterstream.schemas.variables import help_lines, variables_of

from .errors import NotifierError
from .file import read_file
from .kafka import topic_id
from .service import Service
from .settings import PREFIX, NotifierSettings, load_settings

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notifier; return its exit code.

    0 after SIGTERM or SIGINT, 1 if a destination could not be served to the end, 2 if it cannot
    start. Takes no arguments but --help: METERSTREAM_* in the environment say everything.
    """
    if set(arguments or ()) & {"-h", "--help"}:
        sys.stdout.write(f"{help_text()}\n")
        return 0
    if arguments:
        sys.stderr.write("meterstream notifier takes no arguments: --help tells its variables\n")
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings()
        set_up_logs(settings.log_level)
        destinations = read_file(settings.file(), settings.notifier_timeout_seconds)
        for name in (names.THRESHOLDS, names.NOTIFICATIONS_DLQ):
            topic_id(settings, name)
        service = Service(settings, destinations, stop)
        status = StatusServer(
            settings.metrics_host,
            settings.notifier_metrics_port,
            service.metrics.registry,
            healthy=service.unhealthy,
            ready=service.unready,
            setting="METERSTREAM_NOTIFIER_METRICS_PORT",
        )
    except (NotifierError, PortTaken) as error:
        sys.stderr.write(f"meterstream notifier: {error}\n")
        return 2
    with status:
        log.info("metrics on http://%s:%d/metrics", settings.metrics_host, status.port)
        service.start()
        service.wait()
    return 1 if service.failures else 0


def help_text() -> str:
    """Return what the notifier does and every variable that sets it up."""
    lines = [
        "usage: meterstream notifier",
        "       meterstream notifier dead list|retry",
        "",
        "Sends threshold events to webhooks and by email, until SIGTERM or SIGINT. Any number of",
        "notifiers share the work. `dead list` shows what was given up, `dead retry` sends it once",
        "more. These variables set it up (defaults in brackets):",
        "",
    ]
    return "\n".join([*lines, *help_lines(variables_of(NotifierSettings, PREFIX))])


def set_up_logs(level: str) -> None:
    """Send logs to stderr, one line each with time (UTC), level and where it comes from."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
