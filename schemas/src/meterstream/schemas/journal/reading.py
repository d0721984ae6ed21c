"""Reading a journal past what is broken in it: readers go on at a later genesis.

Where a record is broken or missing nobody can tell which of the records behind it are valid, so
every reader stops there. `meterstream meter --new-generation` ends that with a genesis record; this
is how readers that keep no state of their own find it: sinks, the publisher and the audit.
"""

import zlib

from .chain import Chain, ChainBroken, Link
from .header import Header, Kind, MalformedRecord
from .strangers import find_header


class GenesisSearch:
    """Tells which genesis readers go on from, behind a place that they cannot get past.

    A genesis is valid if no valid record stands behind the one that it names. Here any record of
    the journal's may be valid, so it has to name the last one before it, and all offsets between
    must have been looked at. It has to be later than every generation that was seen, too: the
    number of one that was void stays used.
    """

    def __init__(self, generation: int, first: int) -> None:
        self._generation = generation
        self._last = first - 1

    def look(self, offset: int, header: Header | None, *, is_whole: bool = True) -> bool:
        """Look at a record of the journal's; True if reading goes on with it.

        `header` is None if it cannot be read, `is_whole` False if the value is another one.
        """
        if header is not None and self._is_beginning(header) and is_whole:
            return True
        self._last = max(self._last, offset)
        if header is not None:
            self._generation = max(self._generation, header.generation)
        return False

    def _is_beginning(self, header: Header) -> bool:
        return (
            header.kind is Kind.GENESIS
            and header.generation > self._generation
            and header.prev >= self._last
        )


class ChainReader:
    """Follows the chain of one journal partition, and looks ahead where it is told to.

    Start it at a kept link, or without one at the beginning of the journal.
    """

    def __init__(self, link: Link | None = None) -> None:
        self._chain = Chain(link)
        self._search: GenesisSearch | None = None
        self._reason = ""

    @property
    def link(self) -> Link | None:
        """Where the chain stands: while it is looked ahead, where it could not be followed."""
        return self._chain.link

    @property
    def void_records(self) -> int:
        """How many void records were passed over."""
        return self._chain.void_records

    @property
    def strangers(self) -> int:
        """How many of them are not the meter's."""
        return self._chain.strangers

    @property
    def looks_ahead(self) -> bool:
        """Whether a later genesis is looked for."""
        return self._search is not None

    def look_ahead(self, first: int, reason: str) -> None:
        """Look for a later genesis from offset `first` on, for the chain cannot be followed."""
        link = self._chain.link
        self._search = GenesisSearch(0 if link is None else link.generation, first)
        self._reason = reason

    def take(
        self, offset: int, timestamp_us: int, packed: bytes | None, value: bytes
    ) -> Header | None:
        """Move past the record at `offset`; return its header if it is valid, None if it is not.

        `packed` is the header's bytes (see `packed_header`). Raises ChainBroken if the chain cannot
        be followed past this record, MalformedRecord if it is broken, and stays where it was.
        """
        if self._search is not None:
            return self._look(self._search, offset, timestamp_us, packed, value)
        before = self._chain.link
        header = find_header(packed, value)
        if header is None:
            self._chain.pass_over(offset)
            return None
        if not self._chain.take(offset, timestamp_us, header):
            return None
        try:
            header.check_value(value)
        except MalformedRecord:
            self._chain.begin_at(before)
            raise
        return header

    def cannot_read(self, offset: int) -> None:
        """Note, while it is looked ahead, that the record at `offset` cannot be read at all."""
        assert self._search is not None, "a record that cannot be read is a break"
        self._search.look(offset, None)

    def skip_to(self, offset: int) -> None:
        """Note that there is no record below `offset`: the log has none there (a marker, say)."""
        if self._search is None:
            self._chain.skip_to(offset)

    def at_end(self) -> None:
        """Note that the log ends here for now. Raises ChainBroken if no later genesis was found."""
        if self._search is not None:
            raise ChainBroken(self._reason)

    def _look(
        self,
        search: GenesisSearch,
        offset: int,
        timestamp_us: int,
        packed: bytes | None,
        value: bytes,
    ) -> Header | None:
        try:
            header = find_header(packed, value)
        except MalformedRecord:
            search.look(offset, None)
            return None
        if header is None:
            self._chain.void_records += 1
            self._chain.strangers += 1
            return None
        if not search.look(offset, header, is_whole=header.value_crc32 == zlib.crc32(value)):
            return None
        self._search = None
        self._chain.begin_at(None)
        is_valid = self._chain.take(offset, timestamp_us, header)
        assert is_valid, "a genesis begins a chain"
        return header
