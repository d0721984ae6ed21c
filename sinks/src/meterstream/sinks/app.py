"""`main` runs the sink as a process: settings from the environment, until SIGTERM or SIGINT."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from .errors import SinkError
from .service import Service
from .settings import load_settings
from .status import StatusServer

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sink; return its exit code.

    0 after SIGTERM or SIGINT, 1 if a feed could not go on, 2 if the settings cannot be used.
    Takes no arguments: METERSTREAM_* in the environment say everything.
    """
    if arguments:
        sys.stderr.write("meterstream sink takes no arguments: METERSTREAM_* variables set it up\n")
        return 2
    logging.basicConfig(
        level=os.environ.get("METERSTREAM_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s",
    )
    try:
        settings = load_settings()
        service = Service(settings)
        status = StatusServer(
            settings.metrics_host,
            settings.sink_metrics_port,
            service.metrics.registry,
            service.unhealthy,
            service.unready,
        )
    except SinkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    with status:
        log.info("metrics on http://%s:%d/metrics", settings.metrics_host, status.port)
        service.start()
        service.wait()
    return 1 if service.failures else 0


if __name__ == "__main__":
    sys.exit(main())
