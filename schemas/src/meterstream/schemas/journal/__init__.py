"""The journal: what the meter decided, as a chain of records that readers follow."""

from .chain import Chain, ChainBroken, ChainHole, Link
from .header import HEADER_KEY, Header, Kind, MalformedRecord
from .sections import Section, pack_sections, unpack_sections

__all__ = [
    "HEADER_KEY",
    "Chain",
    "ChainBroken",
    "ChainHole",
    "Header",
    "Kind",
    "Link",
    "MalformedRecord",
    "Section",
    "pack_sections",
    "unpack_sections",
]
