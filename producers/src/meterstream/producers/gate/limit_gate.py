"""The gate of a service: it follows the topic that tells where limits stand."""

import ctypes
import os
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from prometheus_client import CollectorRegistry

from meterstream.producers.exceptions import GateNotReady
from meterstream.producers.problems import ErrorCallback, Problems

from .follower import Follower
from .gate import Gate
from .settings import GateSettings

_THREAD_END_S: Final = 5.0
_LIVE: Final[WeakSet["LimitGate"]] = WeakSet()


class LimitGate(Gate):
    """Tells whether a run may begin, from what the meter says of all limits.

    A thread of its own reads `limit-states`, and `catalog` for the organisations of teams, and
    keeps all limits in memory; the broker is never asked on the way of a request. Make one a
    process, after forking: in a child of the process that made it `gate_fail` decides. Without
    `settings` it takes them from `METERSTREAM_*`. `registry` takes the metrics, the default
    registry if absent; `on_error` is told, in the gate's thread, of problems with the broker and
    with records.

    Raises InvalidSettings when it is made. It does not wait for the broker: `wait_ready` does.
    """

    def __init__(
        self,
        settings: GateSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        on_error: ErrorCallback | None = None,
    ) -> None:
        super().__init__(settings or GateSettings.from_environment(), registry)
        problems = Problems(f"gate {self.settings.name}", self._metrics.problem, on_error)
        self._follower: Final = Follower(
            self.settings,
            self._known,
            self._metrics,
            each_turn=self.expire,
            report=problems.report,
        )
        self._follower.start()
        _LIVE.add(self)

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the states of all limits were read, and the catalog if that may be read.

        For a service's start.
        Raises GateNotReady, with the last problem, if that takes longer. In an event loop:
        `await asyncio.to_thread(gate.wait_ready, timeout_s)`.
        """
        if self._follower.loaded.wait(timeout_s):
            return
        problem = self._follower.last_problem
        why = f": {type(problem).__name__}: {problem}" if problem is not None else ""
        raise GateNotReady(
            f"{self.settings.topic} and {self.settings.catalog_topic} were not read to their ends"
            f" within {timeout_s} s{why};"
            f" until it is, {self.settings.gate_fail} decides"
        )

    def close(self) -> None:
        """Follow no more; from now on `gate_fail` decides. Calling it again does nothing."""
        if self._usable:
            self._usable = False
            self._follower.stop(_THREAD_END_S)
            self._metrics.closed()
            _LIVE.discard(self)

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent: its lock, thread and client."""
        self._usable = False
        self._book.after_fork_in_child()
        # Destroying the client would wait for threads that only the parent has.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._follower.consumer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _after_fork_in_child() -> None:
    for gate in list(_LIVE):
        gate.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
