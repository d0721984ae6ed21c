"""Metering never breaks what is metered: errors are counted, logged and reported, not raised."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry

from .exceptions import RecordingError
from .metrics import MeterMetrics
from .problems import ErrorCallback, Problems


class Guard:
    """Decides what becomes of an error in metering: reported, or raised if that was asked for."""

    def __init__(
        self,
        registry: CollectorRegistry | None,
        on_error: ErrorCallback | None,
        *,
        raise_errors: bool,
    ) -> None:
        metrics = MeterMetrics(registry)
        self._problems = Problems("meter", metrics.error, on_error)
        self._raise_errors: Final = raise_errors

    @contextmanager
    def __call__(self, *, may_raise: bool = True) -> Iterator[None]:
        """Let no error out, unless errors are to be raised and `may_raise`."""
        try:
            yield
        except Exception as error:
            self._problems.report(error)
            if self._raise_errors and may_raise:
                raise

    def leave_out(self, complaint: str) -> None:
        """Report a value that cannot be recorded."""
        with self():
            raise RecordingError(complaint)
