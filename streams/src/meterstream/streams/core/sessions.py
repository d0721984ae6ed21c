"""Sessions: what is up, since when, when it was last seen, and up to when it was charged."""

from dataclasses import dataclass, replace
from typing import Any, Final

from meterstream.schemas.times import from_us, to_us

from .decode import AnyEvent, SessionEnded, SessionHeartbeat, SessionStarted
from .policy import DAY_US

SESSION_KEPT_US: Final = 35 * DAY_US
"""A session without a sign of life for this long leaves memory."""

SessionKey = tuple[str, str]
"""(team_id, session_id)"""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it stands. Times in microseconds since 1970."""

    team_id: str
    session_id: str
    user_id: str
    agent_id: str
    project_id: str
    product: str
    application: str
    machine_size: str
    release: str
    status: str
    started_us: int
    last_seen_us: int
    heartbeats: int
    start_seen: bool
    charged_us: int
    """The clock at the last sign that its time was charged at, or at the first of all."""
    credits_micro: int
    """What it was charged so far."""

    @property
    def key(self) -> SessionKey:
        """What the session is found by."""
        return self.team_id, self.session_id

    def to_row(self) -> dict[str, Any]:
        """Return the session as a row with the SESSION columns."""
        return {
            "team_id": self.team_id,
            "session_id": self.session_id,
            "user_id": self.user_id,
            "agent_id": self.agent_id,
            "project_id": self.project_id,
            "product": self.product,
            "application": self.application,
            "machine_size": self.machine_size,
            "release": self.release,
            "status": self.status,
            "started_at": from_us(self.started_us),
            "last_seen_at": from_us(self.last_seen_us),
            "heartbeats": self.heartbeats,
            "charged_until": from_us(self.charged_us),
            "credits_micro": self.credits_micro,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Session":
        """Return the session that `to_row` gave.

        A session whose application is known has shown its start.
        """
        times = ("started_at", "last_seen_at", "charged_until")
        return cls(
            **{name: row[name] for name in row if name not in times},
            started_us=to_us(row["started_at"]),
            last_seen_us=to_us(row["last_seen_at"]),
            charged_us=to_us(row["charged_until"]),
            start_seen=row["application"] != "",
        )


def is_forgotten(session: Session, clock_us: int, horizon_us: int) -> bool:
    """Tell whether a session has left memory at `clock_us`: nothing follows it any more.

    One that has ended is kept for the horizon, in which its other events may still arrive.
    """
    kept_us = SESSION_KEPT_US if session.status == "active" else horizon_us
    return session.last_seen_us + kept_us <= clock_us


def charged_time_us(session: Session | None, event: AnyEvent, clock_us: int) -> int:
    """Return for how long a session is charged at a sign of it: the clock's time since the last.

    A session is charged at heartbeats and its end, while it lasts; the first sign of all begins it.
    """
    if session is None or session.status != "active" or isinstance(event, SessionStarted):
        return 0
    return clock_us - session.charged_us


def follow(session: Session | None, event: AnyEvent, time_us: int, clock_us: int) -> Session:
    """Return the session after `event`, at which the clock was `clock_us`.

    Its times, heartbeats and end come out the same whatever the order in which events arrive; of
    the names that they give it, the last to arrive holds.
    """
    data: Any = event.data
    if session is None:
        session = Session(
            data.team_id, data.session_id, "", "", "", "", "", "", "", "active",
            time_us, time_us, 0, False, clock_us, 0,
        )  # fmt: skip
    changes: dict[str, Any] = {
        name: getattr(data, name) or getattr(session, name)
        for name in ("user_id", "agent_id", "project_id", "product", "machine_size")
    }
    changes["last_seen_us"] = max(session.last_seen_us, time_us)
    changes["charged_us"] = session.charged_us + charged_time_us(session, event, clock_us)
    if isinstance(event, SessionStarted):
        changes |= {"application": data.application, "release": data.release or ""}
        started_us = min(session.started_us, time_us) if session.start_seen else time_us
        changes |= {"started_us": started_us, "start_seen": True}
    elif not session.start_seen:
        changes["started_us"] = min(session.started_us, time_us)
    if isinstance(event, SessionHeartbeat):
        changes["heartbeats"] = session.heartbeats + 1
    elif isinstance(event, SessionEnded):
        changes["status"] = data.status
    return replace(session, **changes)
