"""One journal partition being published: read by its chain, written in transactions."""

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from meterstream.schemas import topics as names
from meterstream.schemas.journal import ChainBroken, ChainReader, Link, MalformedRecord
from meterstream.streams.journal.reader import JournalRecord, is_at, look_ahead, take_next
from meterstream.streams.kafka import Broker, log_bounds, read_at
from meterstream.streams.metrics import PublisherMetrics
from meterstream.streams.settings import PublisherSettings

from .bounded import Overdue, call_within
from .letters import Letter, RawReader, Reject, letter_of, rejects_of

log = logging.getLogger("meterstream.publisher")
silent = logging.getLogger("meterstream.publisher.librdkafka")
silent.disabled = True  # what it says comes back as exceptions, and is told with what follows

TRANSACTION_MS: Final = 10_000
"""After this long the broker ends a transaction whose publisher died; until then readers wait."""
CALL_SECONDS: Final = 15.0
SEND_OFFSETS_SECONDS: Final = 5.0
HANGING_SECONDS: Final = 8.0
"""Sending offsets should end after SEND_OFFSETS_SECONDS, but can hang for good where the group's
coordinator was away (librdkafka issue 5456): after this long the producer is given up."""
POSITION_SECONDS: Final = 2.0
"""How often the position is committed where there is nothing to publish."""


class SlotBroken(Exception):
    """The chain of this partition cannot be followed. The message says why, and what to do."""


class SlotLost(Exception):
    """Another publisher has the slot, or a transaction failed: take it anew, or leave it."""


class ProducerHangs(SlotLost):
    """The group's coordinator went away under a call; that of other slots hangs as well."""


class Slot:
    """Publishes what one journal partition decided, each thing once for readers of committed data.

    The transactional id belongs to the partition, so a publisher that takes it over ends whatever
    its predecessor left open. The link stands in the metadata of the committed offset and moves
    with the transaction.
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
    ) -> None:
        self.partition = partition
        self._settings = settings
        self._broker = broker
        self._consumer = consumer
        self._raw = raw
        self._metrics = metrics
        self._label = str(partition)
        self._journal = settings.topic(names.JOURNAL)
        self._dlq = settings.topic(names.DLQ)
        self._producer = Producer(
            settings.client(
                transactional_id=f"{settings.topic(settings.publisher_group)}-{partition}",
                transaction_timeout_ms=TRANSACTION_MS,
                message_timeout_ms=TRANSACTION_MS,
                linger_ms=5,
                compression_type="lz4",
                batch_size=names.LEAST_MESSAGE_BYTES // 2,
            ),
            logger=silent,
        )
        try:
            # Fences the predecessor first: what is committed after this, we commit.
            self._producer.init_transactions(CALL_SECONDS)
        except KafkaException as failure:
            raise SlotLost(str(failure.args[0].str())) from None
        self._committed_link = self._committed()
        self._chain, self._start = self._begin(self._committed_link)
        self._committed_at = time.monotonic()
        self._is_hanging = False

    @property
    def next_offset(self) -> int:
        """The journal offset to read on from."""
        return self._start

    def _begin(self, link: Link | None) -> tuple[ChainReader, int]:
        """Return a reader of the chain, and the offset that it begins at."""
        reader = self._broker.consumer()
        try:
            start, end = log_bounds(reader, self._journal, self.partition)
            chain = ChainReader(link)
            if link is None:
                return chain, start
            reason = None
            if not start <= link.next_offset <= end:
                reason = f"it holds offsets {start} to {end}, and it was read to {link.next_offset}"
            elif link.prev >= start:
                last = read_at(reader, self._journal, self.partition, link.prev)
                if last is None or not is_at(last, link):
                    reason = f"offset {link.prev} is not the record that was read there"
            if reason is None:
                return chain, link.next_offset
            log.error(
                "%s-%d was made again, or cut: %s; a later generation is looked for",
                self._journal,
                self.partition,
                reason,
            )
            chain.look_ahead(start, f"the journal was made again, or cut: {reason}")
            return chain, start
        finally:
            reader.close()

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
                f" {self._settings.topic(self._settings.publisher_group)}"
            ) from None

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish what these journal records decided.

        Raises SlotLost or SlotBroken; then nothing of this call was published, or the position
        that is read back says that all of it was.
        """
        begun = time.monotonic()
        voids = self._chain.void_records
        refused: list[tuple[JournalRecord, Reject]] = []
        for message in messages:
            record = self._take(message)
            if record is not None:
                try:
                    refused += [(record, reject) for reject in rejects_of(record)]
                except MalformedRecord as broken:
                    raise self._broken(str(broken)) from broken
        self._metrics.void_records.labels(self._label).inc(self._chain.void_records - voids)
        letters = self._letters(refused)
        if letters or (self._is_due() and self._chain.link is not None):
            self._commit(letters)
            self._metrics.transaction_seconds.observe(time.monotonic() - begun)

    def _take(self, message: Message) -> JournalRecord | None:
        """Return the record if it is valid; behind one that is broken, look for a later genesis."""
        self._start = (message.offset() or 0) + 1
        looked_ahead = self._chain.looks_ahead
        try:
            record = take_next(self._chain, message)
        except (ChainBroken, MalformedRecord) as broken:
            log.error(
                "%s-%d cannot be followed: %s; a later generation is looked for behind it",
                self._journal,
                self.partition,
                broken,
            )
            look_ahead(self._chain, message, str(broken))
            return None
        if record is not None and looked_ahead:
            log.error(
                "%s-%d goes on at offset %d, where generation %d begins",
                self._journal,
                self.partition,
                record.offset,
                record.header.generation,
            )
        return record

    def pass_over(self, unreadable: Message) -> None:
        """Go on behind a record that the client cannot read."""
        at = max(self._start, unreadable.offset() or 0)
        self._take(unreadable)
        self._start = at + 1

    def at_end(self) -> None:
        """Note that the journal ends for now; SlotBroken if it was looked ahead for nothing."""
        try:
            self._chain.at_end()
        except ChainBroken as broken:
            raise self._broken(str(broken)) from broken

    def _broken(self, reason: str) -> SlotBroken:
        link = self._committed_link
        return SlotBroken(
            f"{self._journal}-{self.partition}: {reason}. What it decided is published"
            f" {f'up to offset {link.prev}' if link is not None else 'from no offset yet'}."
            f" Begin a new generation with `meterstream meter --new-generation --partition"
            f" {self.partition}`, then start the publisher again: it goes on there, and what the"
            " journal has lost is not published"
        )

    def commit_position(self) -> None:
        """Commit where we stand, if that moved and was not committed for a while."""
        if self._is_due() and self._chain.link != self._committed_link:
            self._commit([])

    def _is_due(self) -> bool:
        return time.monotonic() - self._committed_at > POSITION_SECONDS

    def _letters(self, refused: list[tuple[JournalRecord, Reject]]) -> list[Letter]:
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
        return [
            letter_of(reject, record, *places[reject.topic], raw[reject.topic].get(reject.offset))
            for record, reject in refused
        ]

    def _commit(self, letters: list[Letter]) -> None:
        """Write letters and position in one transaction: both, or neither."""
        link = self._chain.link
        assert link is not None, "records were taken"
        try:
            # 1. Whatever follows belongs together.
            self._producer.begin_transaction()
            # 2. The letters, not visible yet.
            for letter in letters:
                self._produce(letter)
            # 3. The position after them, with the link that makes the next record provable. The
            #    group's generation goes with it, so a publisher that lost its partition fails.
            place = TopicPartition(
                self._journal, self.partition, link.next_offset, link.to_metadata()
            )
            call_within(
                HANGING_SECONDS,
                self._producer.send_offsets_to_transaction,
                [place],
                self._consumer.consumer_group_metadata(),
                SEND_OFFSETS_SECONDS,
            )
            # 4. Both become true at once.
            self._producer.commit_transaction(CALL_SECONDS)
        except KafkaException as failure:
            self._metrics.transactions.labels("aborted").inc()
            self._abort(failure.args[0])
        except Overdue as hanging:
            # The next producer of this transactional id ends what this one has begun.
            self._metrics.transactions.labels("aborted").inc()
            self._is_hanging = True
            raise ProducerHangs(f"sending its position to Kafka hangs ({hanging})") from None
        self._committed_at, self._committed_link = time.monotonic(), link
        self._metrics.transactions.labels("committed").inc()
        for letter in letters:
            self._metrics.dead_letters.labels(self._label, letter.reason).inc()
            if letter.is_lost:
                self._metrics.lost_dead_letters.labels(self._label).inc()

    def _produce(self, letter: Letter) -> None:
        while True:
            try:
                self._producer.produce(
                    self._dlq,
                    key=letter.key,
                    value=letter.value,
                    partition=self.partition,
                    headers=letter.headers,  # type: ignore[arg-type]
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _abort(self, error: KafkaError) -> None:
        if error.txn_requires_abort():
            try:
                self._producer.abort_transaction(CALL_SECONDS)
            except KafkaException as failure:
                log.debug("partition %d: abort: %s", self.partition, failure)
        raise SlotLost(error.str())

    def close(self) -> None:
        """Drop the producer; nothing is open between calls."""
        if self._is_hanging:
            return
        with contextlib.suppress(KafkaException):  # a producer that was fenced refuses even this
            self._producer.purge()
            self._producer.flush(1.0)
