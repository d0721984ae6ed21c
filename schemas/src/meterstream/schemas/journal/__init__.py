"""The journal: what the meter decided, as a chain of records that readers follow."""

from .chain import Chain, ChainBroken, ChainHole, Link
from .header import HEADER_KEY, Header, Kind, MalformedRecord
from .reading import ChainReader, GenesisSearch
from .sections import Section, pack_sections, unpack_sections
from .strangers import find_header, packed_header

__all__ = [
    "HEADER_KEY",
    "Chain",
    "ChainBroken",
    "ChainHole",
    "ChainReader",
    "GenesisSearch",
    "Header",
    "Kind",
    "Link",
    "MalformedRecord",
    "Section",
    "find_header",
    "pack_sections",
    "packed_header",
    "unpack_sections",
]
