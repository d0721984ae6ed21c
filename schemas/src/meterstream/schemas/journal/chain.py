"""Which journal records are valid: a compare-and-swap on a log.

A record is valid only if its `prev` is the offset of the last valid record before it, its
generation is the chain's, its event positions continue and its clock is not lower. A genesis is
valid if its generation is higher than the chain's and no valid record stands behind its `prev`,
the last record that its writer knew. Any other record is void, and every reader skips it; one that
is not the meter's (see `strangers`) cannot be part of a chain, and is void as well. So of two
writers that both believe to own a partition, the one whose record continues the chain first wins,
and the other's records mean nothing.
"""

from dataclasses import dataclass

from .header import NONE, Header, Kind


class ChainBroken(Exception):
    """The chain cannot be followed any further. The message says where and what to do."""


class ChainHole(ChainBroken):
    """A record continues one that this reader has not seen: it must go back, or stop."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a reader stands: enough to go on after a restart, and nothing less.

    `next_offset` is the next journal offset to read, `prev` the last valid record before it.
    """

    next_offset: int
    prev: int
    generation: int
    events_position: int
    clock_us: int

    def to_metadata(self) -> str:
        """Return the link as text for the metadata of a committed offset."""
        return (
            f"1:{self.next_offset}:{self.prev}:{self.generation}"
            f":{self.events_position}:{self.clock_us}"
        )

    @classmethod
    def from_metadata(cls, text: str) -> "Link":
        """Return the link that `to_metadata` wrote; ValueError for any other text."""
        version, *numbers = text.split(":")
        if version != "1" or len(numbers) != 5:
            raise ValueError(f"not a link of this version: {text!r}")
        return cls(*(int(number) for number in numbers))

    def follows(self, header: Header, timestamp_us: int) -> bool:
        """Tell whether the record at `prev` is still the one that the link was made from.

        `header` and `timestamp_us` (its log time) are those of the record that stands there now.
        """
        return (header.generation, header.events_to, header.clock_after(timestamp_us)) == (
            self.generation,
            self.events_position,
            self.clock_us,
        )


class Chain:
    """Follows the chain of one journal partition, record by record, in offset order.

    Start it at an own kept link or a snapshot's, or without one at the beginning of a journal that
    still holds a genesis record.
    """

    def __init__(self, link: Link | None = None) -> None:
        self._link = link
        self.void_records = 0
        self.strangers = 0
        """How many of the void records are not the meter's."""

    @property
    def link(self) -> Link | None:
        """Where the chain stands, or None before its genesis."""
        return self._link

    def take(self, offset: int, timestamp_us: int, header: Header) -> bool:
        """Move past the record at `offset`. True if it is valid, False if it is void.

        Raises ChainHole if it continues a record this reader has not seen, or if the reader has
        no link and the record is no genesis.
        """
        link = self._link
        if link is not None and offset < link.next_offset:
            return False  # a transport that rewound delivers it again
        if self._is_valid(offset, header):
            self._link = Link(
                offset + 1,
                offset,
                header.generation,
                header.events_to,
                header.clock_after(timestamp_us),
            )
            return True
        assert link is not None, "without a link a record is valid or a hole"
        self._link = Link(
            offset + 1, link.prev, link.generation, link.events_position, link.clock_us
        )
        self.void_records += 1
        return False

    def pass_over(self, offset: int) -> None:
        """Move past a record that is not the meter's: it is void."""
        link = self._link
        if link is None or offset >= link.next_offset:
            self.void_records += 1
            self.strangers += 1
            self.skip_to(offset + 1)

    def begin_at(self, link: Link | None) -> None:
        """Go on at `link`, or at the genesis that comes next."""
        self._link = link

    def skip_to(self, offset: int) -> None:
        """Note that there is no record below `offset`: the log has none there (a marker, say)."""
        link = self._link
        if link is not None and offset > link.next_offset:
            self._link = Link(
                offset, link.prev, link.generation, link.events_position, link.clock_us
            )

    def _is_valid(self, offset: int, header: Header) -> bool:
        link = self._link
        if header.kind is Kind.GENESIS:
            return link is None or (
                header.generation > link.generation and header.prev >= link.prev
            )
        if link is None:
            raise ChainHole(
                f"journal offset {offset}: the chain's beginning is gone and no link to it is kept"
            )
        if header.generation != link.generation:
            if header.generation > link.generation:
                raise ChainHole(
                    f"journal offset {offset} is of generation {header.generation},"
                    f" whose genesis was not seen after generation {link.generation}"
                )
            return False
        if header.prev > link.prev:
            raise ChainHole(
                f"journal offset {offset} continues {header.prev}, which was not seen;"
                f" the last valid record seen is {link.prev}"
            )
        return (
            header.prev == link.prev
            and header.prev != NONE
            and header.events_from == link.events_position
            and header.events_to >= header.events_from
            and header.clock_us >= link.clock_us
        )
