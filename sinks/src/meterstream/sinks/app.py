"""`main` runs the sink as a process: settings from the environment, until SIGTERM or SIGINT."""

import gc
import logging
import signal
import sys
from collections.abc import Sequence

from meterstream.schemas.arrow import leave_pandas_out
from meterstream.schemas.status import PortTaken, StatusServer
from meterstream.schemas.variables import help_lines, variables_of

from .errors import SinkError
from .service import Service
from .settings import PREFIX, SinkSettings, load_settings

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sink; return its exit code.

    0 after SIGTERM or SIGINT, 1 if a feed could not go on, 2 if the settings cannot be used.
    Takes no arguments but --help: METERSTREAM_* in the environment say everything.
    """
    if set(arguments or ()) & {"-h", "--help"}:
        sys.stdout.write(f"{help_text()}\n")
        return 0
    if arguments:
        sys.stderr.write("meterstream sink takes no arguments: --help tells its variables\n")
        return 2
    leave_pandas_out()
    try:
        settings = load_settings()
        _set_up_logs(settings.log_level)
        service = Service(settings)
        status = StatusServer(
            settings.metrics_host,
            settings.sink_metrics_port,
            service.metrics.registry,
            healthy=service.unhealthy,
            ready=service.unready,
            setting="METERSTREAM_SINK_METRICS_PORT",
        )
    except (SinkError, PortTaken) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    # A flush makes many objects and no cycles: looking for cycles in them takes time for nothing.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    with status:
        log.info("metrics on http://%s:%d/metrics", settings.metrics_host, status.port)
        service.start()
        service.wait()
    return 1 if service.failures else 0


def help_text() -> str:
    """Return what the sink does and every variable that sets it up."""
    lines = [
        "usage: meterstream sink",
        "",
        "Brings the journal, single runs and the catalog into ClickHouse, until SIGTERM or SIGINT.",
        "Any number of sinks share the work. These variables set it up (defaults in brackets):",
        "",
    ]
    return "\n".join([*lines, *help_lines(variables_of(SinkSettings, PREFIX))])


def _set_up_logs(level: str) -> None:
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"
    )
    for talkative in ("urllib3", "clickhouse_connect"):
        # Each failure is told once, by what tries it again.
        logging.getLogger(talkative).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
