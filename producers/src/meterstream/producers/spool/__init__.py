"""The spool: what was accepted, on disk and in order, until the broker acknowledges it."""

from .acks import Acks
from .cursor import Cursor
from .log import SpoolLog
from .record import Record
from .slots import Slot, SpoolRoot

__all__ = ["Acks", "Cursor", "Record", "Slot", "SpoolLog", "SpoolRoot"]
