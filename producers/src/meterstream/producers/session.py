"""One metered session: a machine or workspace that is up, told at its start, regularly, and end."""

import threading
from datetime import UTC, datetime
from typing import Any, Final, NotRequired, TypedDict

from meterstream.schemas.fields import Status
from meterstream.schemas.session import SESSION_ENDED, SESSION_HEARTBEAT, SESSION_STARTED

from .ids import derived_id, new_id


class SessionAbout(TypedDict):
    """Whose session it is and what is up; lengths as in meterstream.schemas."""

    team_id: str
    application: str
    session_id: NotRequired[str]
    """Fresh if absent."""
    user_id: NotRequired[str | None]
    agent_id: NotRequired[str | None]
    project_id: NotRequired[str | None]
    product: NotRequired[str | None]
    machine_size: NotRequired[str | None]
    release: NotRequired[str | None]
    launch_parameters: NotRequired[dict[str, str] | None]
    """What it takes to launch it once more."""


HEARTBEAT_S: Final = 30.0
"""The interval of heartbeats where none is given."""

_OF_THE_START: Final = ("application", "release", "launch_parameters")


class Session:
    """What is recorded of a session while it is up."""

    def __init__(self, about: SessionAbout, source: str) -> None:
        self.session_id: Final = about.get("session_id") or new_id()
        self._source: Final = source
        self._about: Final[dict[str, Any]] = {**about, "session_id": self.session_id}
        self._lock = threading.Lock()
        self._heartbeats = 0
        self._status: Status = "completed"
        self._error_code: str | None = None
        # Two processes may keep one session up: their heartbeats must not share ids.
        self._beat_prefix: Final = new_id()[:12]

    def resized(self, machine_size: str) -> None:
        """Note that the machine has another size now; heartbeats and the end tell it."""
        self._about["machine_size"] = machine_size

    def fail(self, code: str) -> None:
        """Note that the session failed, with an error code of your own."""
        self._status = "failed"
        self._error_code = str(code)[:64]

    def ended_by(self, error: BaseException | None) -> None:
        """Note how the block ended: an exception fails the session, a cancellation cancels it."""
        if error is None:
            return
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        else:
            self._status = "cancelled"

    def started_event(self) -> dict[str, Any]:
        """Return the CloudEvent that says the session has begun."""
        return self._event(
            SESSION_STARTED, derived_id("session-started", self.session_id), self._about
        )

    def heartbeat_event(self) -> dict[str, Any]:
        """Return the CloudEvent that says the session is still up; each has an id of its own."""
        with self._lock:
            self._heartbeats += 1
            beat = f"heartbeat-{self._beat_prefix}-{self._heartbeats}"
        return self._event(SESSION_HEARTBEAT, derived_id(beat, self.session_id), self._since())

    def ended_event(self) -> dict[str, Any]:
        """Return the CloudEvent that says the session has ended, and how."""
        data = self._since() | {"status": self._status, "error_code": self._error_code}
        return self._event(SESSION_ENDED, derived_id("session-ended", self.session_id), data)

    def _since(self) -> dict[str, Any]:
        return {name: value for name, value in self._about.items() if name not in _OF_THE_START}

    def _event(self, kind: str, event_id: str, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "type": kind,
            "id": event_id,
            "source": self._source,
            "time": datetime.now(UTC),
            "data": data,
        }
