"""One journal partition being published: read by its chain, written in transactions."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import UUID

from confluent_kafka import Consumer, Message, TopicPartition

from meterstream.schemas import topics as names
from meterstream.schemas.journal import ChainReader, Link, MalformedRecord
from meterstream.streams.journal.reader import header_of, is_at
from meterstream.streams.kafka import Broker, log_bounds, read_at
from meterstream.streams.metrics import PublisherMetrics
from meterstream.streams.settings import PublisherSettings

from .counted import Counted, counted_before
from .letters import Letter, RawReader, letter_of
from .pending import Pending
from .place import Place
from .reading import Reading, SlotBroken
from .team_usage import TeamUsage
from .transactions import CALL_SECONDS, Record, SlotLost, Transactions

log = logging.getLogger("meterstream.publisher")

HEARTBEAT_SECONDS: Final = 1.0
NEVER: Final = float("inf")
POSITION_SECONDS: Final = 2.0
"""How often the position is committed where there is nothing to publish."""


class Slot:
    """Publishes what one journal partition decided, each thing once for readers of committed data.

    The link stands in the metadata of the committed offset and moves with the transaction, never
    past a record of which something is not published.
    """

    def __init__(
        self,
        partition: int,
        *,
        settings: PublisherSettings,
        broker: Broker,
        consumer: Consumer,
        raw: RawReader,
        metrics: PublisherMetrics,
        usage: TeamUsage | None,
    ) -> None:
        """Take over a partition; `usage` makes the events of `org-usage`, of teams only.

        Raises SlotLost, BrokerUnavailable, or SlotBroken where it cannot be gone on with.
        """
        self.partition = partition
        self._settings = settings
        self._broker = broker
        self._consumer = consumer
        self._raw = raw
        self._metrics = metrics
        self._label = str(partition)
        self._journal = settings.topic(names.JOURNAL)
        self._transactions = Transactions(settings, partition, consumer)
        self._committed_link = self._committed()
        self._pending = self._nothing_pending(self._committed_link, usage)
        self._reading = self._begin(self._committed_link)
        self._committed_at = time.monotonic()
        self._published_at = self._heartbeat_at = -NEVER
        self.told_clock_us: int | None = None
        """The clock of the last heartbeat that Kafka has."""
        self._letters: list[Letter] = []

    @property
    def next_offset(self) -> int:
        """The journal offset to read on from."""
        return self._reading.next_offset

    def _nothing_pending(self, link: Link | None, usage: TeamUsage | None) -> Pending:
        settings, counted = self._settings, None
        if settings.stage == "organisations":
            states = settings.topic(names.LIMIT_STATES)
            counted = (
                Counted()
                if link is None
                else counted_before(self._broker, states, self.partition, link)
            )
        return Pending(
            self.partition,
            f"/{settings.topic(names.THRESHOLDS)}",
            settings.publisher_max_records,
            usage=usage,
            counted=counted,
        )

    def _begin(self, link: Link | None) -> Reading:
        """Return what reads the journal from a link on, or from its beginning."""
        reader = self._broker.consumer()
        chain, events_topic_id, reason = ChainReader(link), None, None
        try:
            start, end = log_bounds(reader, self._journal, self.partition)
            if link is not None and not start <= link.next_offset <= end:
                reason = f"it holds offsets {start} to {end}, and it was read to {link.next_offset}"
            elif link is not None and link.prev >= start:
                last = read_at(reader, self._journal, self.partition, link.prev)
                if last is None or not is_at(last, link):
                    reason = f"offset {link.prev} is not the record that was read there"
                else:
                    events_topic_id = _events_topic_id(last)
        finally:
            reader.close()
        if reason is not None:
            log.error(
                "%s-%d was made again, or cut: %s; a later generation is looked for",
                self._journal,
                self.partition,
                reason,
            )
            chain.look_ahead(start, f"the journal was made again, or cut: {reason}")
        return Reading(
            self._journal,
            self.partition,
            chain=chain,
            start=start if link is None or reason is not None else link.next_offset,
            pending=self._pending,
            events_topic_id=events_topic_id,
        )

    def _committed(self) -> Link | None:
        found = self._consumer.committed(
            [TopicPartition(self._journal, self.partition)], timeout=CALL_SECONDS
        )[0]
        if found.offset < 0:
            return None
        try:
            return Link.from_metadata(found.metadata or "")
        except ValueError as error:
            raise SlotBroken(
                f"{self._journal}-{self.partition}: the committed offset {found.offset} carries no"
                f" link ({error}): something else than a publisher committed it for the group"
                f" {self._settings.group_id(self._settings.publisher_group)}"
            ) from None

    def take(self, messages: Sequence[Message]) -> bool:
        """Take what these journal records decided; it waits for its transaction.

        False if there is too much for one: then the rest must be read again from `next_offset` on.
        Raises SlotBroken where they cannot be read; what was taken before is still to be published.
        """
        voids = self._reading.void_records
        try:
            for message in messages:
                if self._pending.is_full:
                    return False
                self._reading.take(message)
            return True
        finally:
            found = self._reading.void_records - voids
            self._metrics.void_records.labels(self._label).inc(found)

    def pass_over(self, unreadable: Message) -> None:
        """Go on behind a record that the client cannot read."""
        self._reading.pass_over(unreadable)

    def at_end(self) -> None:
        """Note that the journal ends for now; SlotBroken if it was looked ahead for nothing."""
        self._reading.at_end()

    @property
    def due_at(self) -> float:
        """When the next transaction is due, on the clock of `time.monotonic`.

        What limits a state to so many a second is the time between two transactions.
        """
        if self._pending.is_urgent:
            return 0.0
        if self._pending:
            return self._published_at + self._settings.publisher_interval_ms / 1000
        if self._reading.link != self._committed_link:
            return self._committed_at + POSITION_SECONDS
        return NEVER

    def prepare(self) -> None:
        """Fetch what the transaction needs: the bytes of dead letters."""
        refused = self._pending.refused
        places = {
            "events": (self._settings.topic(names.EVENTS), self.partition),
            "control": (self._settings.topic(names.CONTROL), self.partition),
            "catalog": (self._settings.topic(names.CATALOG), 0),
        }
        raw = {
            topic: self._raw.fetch(
                *places[topic], [r.offset for _, r in refused if r.topic == topic]
            )
            for topic in {reject.topic for _, reject in refused}
        }
        self._letters = [
            letter_of(reject, record, *places[reject.topic], raw[reject.topic].get(reject.offset))
            for record, reject in refused
        ]

    def commit(self) -> None:
        """Publish what is pending, and the position after it, in one transaction.

        May run beside the commits of other slots. Raises SlotLost: then nothing of it was
        published, or the position that is read back says that all of it was.
        """
        link = self._reading.link
        assert link is not None, "records were taken"
        begun = time.monotonic()
        position = TopicPartition(
            self._journal, self.partition, link.next_offset, link.to_metadata()
        )
        try:
            self._transactions.write(self._records(), position)
        except SlotLost:
            self._metrics.transactions.labels("aborted").inc()
            raise
        self._committed_at, self._committed_link = time.monotonic(), link
        self._metrics.transactions.labels("committed").inc()
        if self._pending:
            self._published_at = self._heartbeat_at = self._committed_at
            self.told_clock_us = link.clock_us
            self._metrics.transaction_seconds.observe(self._committed_at - begun)
            self._count()
            self._pending.clear()
            self._letters.clear()

    def _records(self) -> Iterator[Record]:
        """Yield what is pending, and behind the states the heartbeat that tells of them."""
        if not self._pending:
            return
        dlq, thresholds, states, org_usage = (
            self._settings.topic(name)
            for name in (names.DLQ, names.THRESHOLDS, names.LIMIT_STATES, names.ORG_USAGE)
        )
        for usage in self._pending.usage:
            yield Record(org_usage, usage.key, usage.value, partition=usage.partition)
        for letter in self._letters:
            yield Record(dlq, letter.key, letter.value, letter.headers)
        for threshold in self._pending.thresholds:
            yield Record(thresholds, threshold.key, threshold.value)
        place = self._reading.place()
        assert place is not None, "records were taken"
        for key, value in self._pending.states.records(place.link.clock_us):
            yield Record(states, key, value)
        yield Record(states, *place.heartbeat())

    def _count(self) -> None:
        now_us = time.time_ns() // 1000
        for letter in self._letters:
            self._metrics.dead_letters.labels(self._label, letter.reason).inc()
            if letter.is_lost:
                self._metrics.lost_dead_letters.labels(self._label).inc()
        for threshold in self._pending.thresholds:
            labels = self._label, threshold.kind, threshold.level
            self._metrics.threshold_events.labels(*labels).inc()
            self._metrics.threshold_seconds.observe(max(0, now_us - threshold.caused_us) / 1e6)
        self._metrics.limit_states.labels(self._label).inc(len(self._pending.states))
        self._metrics.organisation_usage.labels(self._label).inc(len(self._pending.usage))

    def heartbeat(self) -> Place | None:
        """Return what a heartbeat is to tell now, None where none is due or states are pending."""
        now = time.monotonic()
        if self._pending or now - self._heartbeat_at < HEARTBEAT_SECONDS:
            return None
        self._heartbeat_at = now
        return self._reading.place()

    def delivered(self, place: Place) -> Callable[[], None]:
        """Return what is to be called when Kafka has the heartbeat of a place."""

        def note() -> None:
            self.told_clock_us = place.link.clock_us

        return note

    def close(self) -> None:
        """Drop the producer; nothing is open between calls."""
        self._transactions.close()


def _events_topic_id(record: Message) -> UUID | None:
    """Return which events topic a journal record is of, if it can be read."""
    with contextlib.suppress(MalformedRecord):
        header = header_of(record)
        return header.events_topic_id if header is not None else None
    return None
