"""One spooled event in a segment file: length, CRC-32, then the body. All integers big-endian.

A write that a kill cut short leaves a tail that is no complete record. The length and the CRC
tell, so such a tail is never taken for an event; it was never accepted either, because accepting
waits for the whole write.
"""

import struct
import zlib
from typing import Final, NamedTuple

MAGIC: Final = b"MSPOOL01"
"""How each segment file begins; the last two bytes are the version of this layout."""

_FRAME: Final = struct.Struct(">II")
_BODY: Final = struct.Struct(">qqH")
OVERHEAD: Final = _FRAME.size + _BODY.size
"""Bytes of a record beside its key and value."""
MAX_RECORD: Final = 256 * 1024
"""The longest record, above the largest event and key of the contract."""


class Record(NamedTuple):
    """An accepted event. `seq` counts within a slot, without holes."""

    seq: int
    accepted_us: int
    """When it was accepted: wall clock, microseconds since 1970 (UTC)."""
    key: bytes
    value: bytes


def pack(record: Record) -> bytes:
    """Return the record as it stands in a segment; ValueError if it is longer than MAX_RECORD."""
    head = _BODY.pack(record.seq, record.accepted_us, len(record.key))
    body = b"".join((head, record.key, record.value))
    if len(body) + _FRAME.size > MAX_RECORD:
        raise ValueError(f"a spooled record has {MAX_RECORD:,} bytes at most")
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def unpack(buffer: bytes, start: int = 0) -> tuple[list[Record], int]:
    """Return the whole records from `start` on, and the position after the last of them.

    Stops where the buffer ends within a record, and where the bytes are no record.
    """
    records: list[Record] = []
    at = start
    while at + OVERHEAD <= len(buffer):
        length, crc = _FRAME.unpack_from(buffer, at)
        body = at + _FRAME.size
        end = body + length
        if length < _BODY.size or end - at > MAX_RECORD or end > len(buffer):
            break
        if zlib.crc32(buffer[body:end]) != crc:
            break
        seq, accepted_us, key_length = _BODY.unpack_from(buffer, body)
        value = body + _BODY.size + key_length
        if value > end:
            break
        records.append(
            Record(seq, accepted_us, buffer[body + _BODY.size : value], buffer[value:end])
        )
        at = end
    return records, at
