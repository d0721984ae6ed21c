"""Which records of a journal topic are the meter's: any other one is void, for all readers."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from .header import HEADER_KEY, SIZE, Header, MalformedRecord
from .sections import unpack_sections


def packed_header(
    headers: Iterable[tuple[str, object]] | Mapping[str, object] | None,
) -> bytes | None:
    """Return the bytes of the chain's header among a record's Kafka headers, None if it has none.

    It is known by its name or, where that is damaged, by its own CRC.
    """
    found = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    for name, value in found:
        if name == HEADER_KEY:
            return value if isinstance(value, bytes) else b""
    for _, value in found:
        if isinstance(value, bytes) and len(value) == SIZE:
            with suppress(MalformedRecord):
                Header.unpack(value)
                return value
    return None


def find_header(packed: bytes | None, value: bytes) -> Header | None:
    """Return a record's header, None for a record that is not the meter's.

    `packed` is what `packed_header` found. Raises MalformedRecord if the header cannot be read, or
    is lost while the value is that of a journal record: it may have been valid. Where neither tells
    of the meter, the record that continues it shows a hole.
    """
    if packed is not None:
        return Header.unpack(packed)
    try:
        sections = unpack_sections(value)
    except MalformedRecord:
        return None
    if sections:
        raise MalformedRecord(f"the record has lost its {HEADER_KEY} header")
    return None
