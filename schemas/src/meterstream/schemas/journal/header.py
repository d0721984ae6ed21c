"""The header of a journal record: a fixed layout that links the record into its chain.

It travels as one Kafka record header, so that a reader can tell a void record from a valid one
without touching the value. All integers are big-endian.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

HEADER_KEY: Final = "meterstream-chain"
LAYOUT: Final = 1
"""The version of the layout of headers and sections; a reader stops at one it does not know."""

_STRUCT: Final = struct.Struct(">BBHI16s16sqqqqqqqqqQiI")
_CRC: Final = struct.Struct(">I")
SIZE: Final = _STRUCT.size + _CRC.size
"""Bytes of a header: its fields, and the CRC-32 of their bytes."""
MAX_GRACE_SECONDS: Final = 2**16 - 1
"""The longest grace that a header can tell: a little over 18 hours."""
NONE: Final = -1
"""Stands for "no offset": the `prev` of a first genesis, the last event of an empty partition."""


class MalformedRecord(ValueError):
    """A journal record that cannot be decoded. A reader that meets a valid one of these stops."""


class Kind(IntEnum):
    """What a journal record is for."""

    GENESIS = 1
    """Begins a generation and names the positions it starts from."""
    STEP = 2
    """Decides a range of events, and the control and catalog entries taken with it."""
    IDLE = 3
    """Nothing arrived; the record's own log-append time moves the partition's clock."""


@dataclass(frozen=True, slots=True)
class Header:
    """The chain's part of one journal record.

    Positions are the next offset to read *after* this record, but for `events_from`, the position
    before it. `clock_us` is the partition's clock after a step, and before the record's own
    timestamp in an idle record.
    """

    kind: Kind
    grace_seconds: int
    """How long after its end a minute was open for this record, 0 to MAX_GRACE_SECONDS. Minutes
    that ended this long before the record's clock are closed after it, whatever comes later."""
    generation: int
    events_topic_id: UUID
    journal_topic_id: UUID
    prev: int
    """Journal offset of the last valid record before this one, NONE at the first genesis. In a
    genesis that of the last record of any kind which its writer knew."""
    events_from: int
    events_to: int
    control_to: int
    catalog_to: int
    clock_us: int
    clock_limit_us: int
    """The latest log time that may move the clock: guards against a broker's clock years ahead."""
    last_event_offset: int
    """Offset of the last event that was read, NONE if there was none yet."""
    last_event_time_us: int
    last_event_hash: int
    """xxh3-64 of that event's value: a log that was rewritten does not join."""
    last_event_epoch: int
    """Leader epoch of that event, NONE where the client does not tell it."""
    value_crc32: int
    """CRC-32 of the record's value."""

    def pack(self) -> bytes:
        """Return the header's bytes."""
        packed = _STRUCT.pack(
            LAYOUT,
            self.kind,
            self.grace_seconds,
            self.generation,
            self.events_topic_id.bytes,
            self.journal_topic_id.bytes,
            self.prev,
            self.events_from,
            self.events_to,
            self.control_to,
            self.catalog_to,
            self.clock_us,
            self.clock_limit_us,
            self.last_event_offset,
            self.last_event_time_us,
            self.last_event_hash,
            self.last_event_epoch,
            self.value_crc32,
        )
        return packed + _CRC.pack(zlib.crc32(packed))

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """Return the header that `data` holds.

        Raises MalformedRecord if it is none this code knows, or not as it was written. A reader
        need not check the CRC of the broker's batches: nothing that it acts on goes unnoticed.
        """
        if len(data) != SIZE:
            raise MalformedRecord(f"a header has {SIZE} bytes, not {len(data)}")
        layout, kind, grace_s, generation, events_id, journal_id, *rest = _STRUCT.unpack_from(data)
        if layout != LAYOUT:
            raise MalformedRecord(f"layout {layout} is unknown here, this code reads {LAYOUT}")
        (told,) = _CRC.unpack_from(data, _STRUCT.size)
        found = zlib.crc32(data[: _STRUCT.size])
        if found != told:
            raise MalformedRecord(f"the header's CRC-32 is {found:08x}, it says {told:08x}")
        try:
            known = Kind(kind)
        except ValueError:
            raise MalformedRecord(f"kind {kind} is unknown") from None
        ids = UUID(bytes=events_id), UUID(bytes=journal_id)
        return cls(known, grace_s, generation, *ids, *rest)

    def clock_after(self, timestamp_us: int) -> int:
        """Return the partition's clock after this record, if it is valid, with that log time.

        An idle record's own log time moves the clock, unless it lies past the record's limit.
        """
        if self.kind is Kind.IDLE and timestamp_us <= self.clock_limit_us:
            return max(self.clock_us, timestamp_us)
        return self.clock_us

    def check_value(self, value: bytes) -> None:
        """Raise MalformedRecord unless `value` is the value this header was written for."""
        found = zlib.crc32(value)
        if found != self.value_crc32:
            raise MalformedRecord(
                f"the value's CRC-32 is {found:08x}, its header says {self.value_crc32:08x}"
            )
