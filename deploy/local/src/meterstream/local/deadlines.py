"""How long the servers of the embedded stack may take."""

from dataclasses import dataclass

from meterstream.local.locking import LOCK_WAIT_S


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a start has failed, until a stop is by force, and to wait for a lock."""

    start_s: float = 120.0
    stop_s: float = 30.0
    lock_s: float = LOCK_WAIT_S
