"""Following one journal partition: which records are valid, and what they decided."""

import logging
from uuid import UUID

from confluent_kafka import Message

from meterstream.schemas.journal import ChainBroken, ChainReader, MalformedRecord
from meterstream.streams.journal.reader import look_ahead, take_next

from .crossings import KindUnknown
from .pending import Pending
from .place import Place

log = logging.getLogger("meterstream.publisher")


class SlotBroken(Exception):
    """The chain of this partition cannot be followed. The message says why, and what to do."""


class Reading:
    """Reads a partition by its chain, and gathers what valid records decided until it is published.

    Its link is never past a record of which something is neither published nor pending.
    """

    def __init__(
        self,
        journal: str,
        partition: int,
        *,
        chain: ChainReader,
        start: int,
        pending: Pending,
        events_topic_id: UUID | None = None,
    ) -> None:
        self._name = f"{journal}-{partition}"
        self._partition = partition
        self._chain = chain
        self._events_topic_id = events_topic_id
        self.pending = pending
        self.next_offset = start
        """The journal offset to read on from."""
        self.link = chain.link
        """Behind the last record whose decisions are pending or published."""

    @property
    def void_records(self) -> int:
        """How many void records were passed over."""
        return self._chain.void_records

    def place(self) -> Place | None:
        """Return up to where usage was counted; None while nothing is known of that."""
        if self.link is None or self._events_topic_id is None:
            return None
        pending = self.pending
        return Place(
            self._events_topic_id,
            self._partition,
            self.link,
            pending.owners,
            pending.counted.all(),
            pending.all_told,
        )

    def take(self, message: Message) -> None:
        """Take a record's decisions if it is valid; behind a broken one look for a later genesis.

        Raises SlotBroken where what it decided cannot be read; of it nothing is taken then.
        """
        self.next_offset = (message.offset() or 0) + 1
        looked_ahead = self._chain.looks_ahead
        try:
            record = take_next(self._chain, message)
        except (ChainBroken, MalformedRecord) as broken:
            log.error(
                "%s cannot be followed: %s; a later generation is looked for behind it",
                self._name,
                broken,
            )
            look_ahead(self._chain, message, str(broken))
            return
        if record is not None:
            if looked_ahead:
                log.error(
                    "%s goes on at offset %d, where generation %d begins",
                    self._name,
                    record.offset,
                    record.header.generation,
                )
            link = self._chain.link
            assert link is not None, "the record is valid"
            place = Place(record.header.events_topic_id, self._partition, link)
            try:
                self.pending.take(record, place)
            except MalformedRecord as broken:
                raise self._broken(str(broken)) from broken
            except KindUnknown as unknown:
                raise SlotBroken(
                    f"{self._name}: {unknown}: the meter is of a newer release. Start publishers"
                    " of that release: they go on where this one stopped"
                ) from None
            self._events_topic_id = record.header.events_topic_id
        self.link = self._chain.link

    def pass_over(self, unreadable: Message) -> None:
        """Go on behind a record that the client cannot read."""
        at = max(self.next_offset, unreadable.offset() or 0)
        self.take(unreadable)
        self.next_offset = at + 1

    def at_end(self) -> None:
        """Note that the journal ends for now; SlotBroken if it was looked ahead for nothing."""
        try:
            self._chain.at_end()
        except ChainBroken as broken:
            raise self._broken(str(broken)) from broken

    def _broken(self, reason: str) -> SlotBroken:
        upto = "from no offset yet" if self.link is None else f"up to offset {self.link.prev}"
        stage = " --organisations" if self.pending.owners == "organisations" else ""
        return SlotBroken(
            f"{self._name}: {reason}. What it decided is published {upto}. Begin a new generation"
            f" with `meterstream meter{stage} --new-generation --partition {self._partition}`, then"
            " start the publisher again: it goes on there, and what the journal has lost is not"
            " published"
        )
