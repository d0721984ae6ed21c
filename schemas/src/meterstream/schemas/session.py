"""Session events: a machine or workspace that is up, reported at its start, regularly, and end."""

from typing import Final, Literal

from .envelope import Envelope
from .fields import Code, Data, Id, LongId, Name, Tags, UserId

SESSION_STARTED: Final = "meterstream.session.started.v1"
SESSION_HEARTBEAT: Final = "meterstream.session.heartbeat.v1"
SESSION_ENDED: Final = "meterstream.session.ended.v1"


class _Session(Data):
    team_id: Id
    session_id: LongId
    user_id: UserId | None = None
    agent_id: Id | None = None
    project_id: Id | None = None
    product: Name | None = None


class SessionStartedData(_Session):
    """A session has begun; `launch_parameters` are what it takes to launch it once more."""

    application: Name
    machine_size: Code | None = None
    release: Name | None = None
    launch_parameters: Tags | None = None


class SessionHeartbeatData(_Session):
    """A session is still up; its time since the sign before is charged."""

    machine_size: Code | None = None


class SessionEndedData(_Session):
    """A session has ended; its time since the sign before is charged, and none after it."""

    machine_size: Code | None = None
    status: Literal["completed", "failed", "cancelled"] = "completed"
    error_code: Code | None = None


class SessionStarted(Envelope):
    """A session has begun."""

    type: Literal["meterstream.session.started.v1"] = SESSION_STARTED
    data: SessionStartedData


class SessionHeartbeat(Envelope):
    """A session is still up."""

    type: Literal["meterstream.session.heartbeat.v1"] = SESSION_HEARTBEAT
    data: SessionHeartbeatData


class SessionEnded(Envelope):
    """A session has ended."""

    type: Literal["meterstream.session.ended.v1"] = SESSION_ENDED
    data: SessionEndedData
