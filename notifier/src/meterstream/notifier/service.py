"""The notifier as a service: a lane for each destination, a thread each, and how they do."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from .dead import DeadLetters
from .errors import NotifierError
from .file import Destination
from .lane import Lane
from .metrics import NotifierMetrics
from .parcel import KINDS, Kind
from .settings import NotifierSettings

END_S: Final = 20.0
"""How long attempts may go on after the service was told to stop; one that is cut off then may be
repeated, as after a kill."""

log = logging.getLogger(__name__)


class Service:
    """Serves all destinations until it is told to stop. One that fails leaves the others alone."""

    def __init__(
        self,
        settings: NotifierSettings,
        destinations: tuple[Destination, ...],
        stop: threading.Event,
    ) -> None:
        self.metrics = NotifierMetrics()
        self.failures: dict[str, str] = {}
        self._stop = stop
        letters = DeadLetters(settings)
        self._lanes = [
            Lane(destination, settings, letters, self.metrics, self._stop)
            for destination in destinations
        ]
        # Daemons: a receiver that keeps an answer back does not keep the process from ending.
        self._threads = [
            threading.Thread(
                target=self._run, args=(lane,), name=lane.destination.name, daemon=True
            )
            for lane in self._lanes
        ]
        for kind in KINDS:
            self._show(kind)

    def start(self) -> None:
        """Start all lanes."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Return when all lanes have ended, or some seconds after they were told to."""
        # All of them may fail: the process stays and says so, as the metrics ask for.
        self._stop.wait()
        end_s = time.monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def unhealthy(self) -> Mapping[str, str]:
        """Return the destinations that are not served any more, with the reasons."""
        return dict(self.failures)

    def unready(self) -> Mapping[str, str]:
        """Return the destinations that are not served, or not yet, with the reasons."""
        waiting = (lane.destination.name for lane in self._lanes if not lane.is_open)
        return {**dict.fromkeys(waiting, "is waiting for partitions"), **self.failures}

    def _run(self, lane: Lane) -> None:
        name = lane.destination.name
        log.info("destination %s is served", name)
        try:
            lane.run()
        except Exception as error:
            self.failures[name] = str(error) or type(error).__name__
            told = isinstance(error, NotifierError)
            log.error("destination %s is not served any more: %s", name, error, exc_info=not told)

    def _show(self, kind: Kind) -> None:
        def added(measure: Callable[[Lane], int]) -> Callable[[], float]:
            return lambda: float(
                sum(measure(lane) for lane in self._lanes if lane.destination.kind == kind)
            )

        metrics = self.metrics
        metrics.backlog_events.labels(kind).set_function(added(lambda lane: lane.backlog))
        metrics.failing_destinations.labels(kind).set_function(added(lambda lane: lane.is_failing))
        metrics.stopped_destinations.labels(kind).set_function(
            added(lambda lane: lane.destination.name in self.failures)
        )
