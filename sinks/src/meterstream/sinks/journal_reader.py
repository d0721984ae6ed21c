"""Follows the journal's partitions that the consumer group gives to this process."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterstream.schemas.journal import (
    ChainBroken,
    ChainHole,
    ChainReader,
    Header,
    Link,
    MalformedRecord,
    packed_header,
)
from meterstream.schemas.kafka_errors import UNREADABLE

from .errors import JournalBroken
from .log_reader import is_passing
from .record import JournalRecord
from .stages import TEAMS, Stage
from .start import Start, advice, place_of, timestamp_us_of

Committed = Callable[[], Link | None]
"""Asks Kafka for the link that was committed last. Raises KafkaException, JournalBroken."""
OnAssigned = Callable[[int, Committed], Start]
"""Told of each partition that this process now owns; returns where it begins."""
OnRevoked = Callable[[list[int], bool], None]
"""Told of partitions that go, and whether they may still be committed."""

ANSWER_S: Final = 30.0
COMMIT_S: Final = 15.0
"""A commit should answer or fail, but can hang for good where the group's coordinator was away or
still loads: after this long nobody waits for it any more."""

_CUT_SHORT: Final = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
)

_NO_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_NOT_OURS: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._STATE,
    }
)

log = logging.getLogger(__name__)


class JournalReader:
    """A consumer of the journal that knows valid records from void ones.

    It belongs to one thread. `on_assigned` and `on_revoked` are called within `poll` and `close`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        group: str,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
        stage: Stage = TEAMS,
    ) -> None:
        self.topic = topic
        self._stage = stage
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._chains: dict[int, ChainReader] = {}
        self._starts_of: dict[int, Start] = {}
        self._next: dict[int, int] = {}
        """The next offset that the client is expected to deliver."""
        self._rewound_at: dict[int, int] = {}
        self._failure: BaseException | None = None
        self._hanging: threading.Thread | None = None
        self._consumer = Consumer(
            {
                **config,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                # The record's own CRCs say what is broken and where; at a batch's that does not
                # fit, librdkafka may end the whole process with a failed assertion.
                "check.crcs": False,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 64 * 1024,
                "max.poll.interval.ms": 600_000,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 1_500,
                "topic.metadata.refresh.interval.ms": 10_000,
            }
        )
        self._consumer.subscribe(
            [topic],
            on_assign=self._assigned,
            on_revoke=lambda _, partitions: self._revoked(partitions, may_commit=True),
            on_lost=lambda _, partitions: self._revoked(partitions, may_commit=False),
        )

    @property
    def partitions(self) -> list[int]:
        """The partitions that this process owns."""
        return sorted(self._chains)

    def void_records(self, partition: int) -> int:
        """Return how many void records of `partition` were passed over."""
        return self._chains[partition].void_records

    def poll(self, timeout_s: float) -> JournalRecord | None:
        """Return the next valid record of any partition, or None if there is none for a while.

        Raises JournalBroken where the chain cannot be followed, and whatever the callbacks raise.
        """
        message = self._consumer.poll(timeout_s)
        self._raise_failure()
        if message is None:
            return None
        error = message.error()
        if error is None:
            return self._take(message)
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end(place_of(message)[0])
        elif error.name() in UNREADABLE:
            self._pass_over(message, error)
        elif error.code() in _CUT_SHORT:
            log.warning("%s: %s; looking for the place anew", self.topic, error.str())
            self._start_again([place_of(message)[0]])
        elif error.code() in _NO_TOPIC:
            log.warning("topic %s does not exist: create it with `meterstream topics`", self.topic)
        elif not is_passing(error):
            raise JournalBroken(f"topic {self.topic} cannot be read: {error.str()}")
        return None

    def lag(self, partition: int) -> int:
        """Return how many records of `partition` were not taken yet, as far as is known."""
        link = self._chains[partition].link
        known = self._consumer.get_watermark_offsets(
            TopicPartition(self.topic, partition), cached=True
        )
        if link is None or known[1] < 0:
            return 0
        return max(0, int(known[1]) - link.next_offset)

    def commit(self, links: Mapping[int, Link]) -> None:
        """Commit each link with its offset. Raises KafkaException if the group refuses it.

        One that hangs is given up: the rows and the position in ClickHouse are stored before.
        """
        offsets = [
            TopicPartition(self.topic, partition, link.next_offset, metadata=link.to_metadata())
            for partition, link in links.items()
            if partition in self._chains
        ]
        if not offsets:
            return
        try:
            self._commit(offsets)
        except KafkaException as failure:
            if failure.args[0].code() not in _NOT_OURS:
                raise
            # The rows are stored, and the partitions are about to go: their next owner begins at
            # the positions in ClickHouse or before.
            log.warning("links not committed: %s", failure.args[0].str())

    def _commit(self, offsets: list[TopicPartition]) -> None:
        if self._commit_hangs():
            return
        failures: list[Exception] = []

        def call() -> None:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            except Exception as failure:  # noqa: BLE001 - raised again by who waits
                failures.append(failure)

        # A daemon: a call that never returns does not keep the process from ending.
        thread = threading.Thread(target=call, name="commit", daemon=True)
        thread.start()
        thread.join(COMMIT_S)
        if thread.is_alive():
            self._hanging = thread
            log.warning("committing to %s hangs; positions stand in ClickHouse", self.topic)
        if failures:
            raise failures[0]

    def _commit_hangs(self) -> bool:
        return self._hanging is not None and self._hanging.is_alive()

    def close(self) -> None:
        """Leave the group; while a commit hangs only by silence, for leaving would wait for it."""
        if not self._commit_hangs():
            self._consumer.close()
        self._raise_failure()

    def _take(self, message: Message) -> JournalRecord | None:
        partition, offset = place_of(message)
        chain = self._chains.get(partition)
        if chain is None:
            return None  # fetched before the partition went
        self._next[partition] = offset + 1
        before = chain.strangers
        header = self._header(chain, partition, offset, message)
        if chain.strangers == 1 and not before:
            log.warning(
                "%s-%d, offset %d is not the meter's: it is void, and so are others like it",
                self.topic,
                partition,
                offset,
            )
        if header is None:
            return None
        assert chain.link is not None, "a valid record makes a link"
        return JournalRecord(
            partition,
            offset,
            timestamp_us_of(message),
            max(0, message.leader_epoch() or 0),
            header,
            message.value() or b"",
            chain.link,
        )

    def _header(
        self, chain: ChainReader, partition: int, offset: int, message: Message
    ) -> Header | None:
        """Return the header of a valid record; where there is a break, begin to look ahead."""
        timestamp_us, value = timestamp_us_of(message), message.value() or b""
        packed = packed_header(message.headers())
        link, looked_ahead = chain.link, chain.looks_ahead
        try:
            header = chain.take(offset, timestamp_us, packed, value)
        except MalformedRecord as error:
            reason = (
                f"{self.topic}-{partition}, offset {offset} cannot be read: {error}. If a newer"
                f" meter wrote it, update the sink. Else: {advice(self._stage, partition)}"
            )
        except ChainHole as hole:
            if link is not None and self._rewound_at.get(partition) != offset:
                self._rewind(partition, offset, link, hole)
                return None
            reason = (
                f"{self.topic}-{partition} cannot be followed: {hole}."
                f" {advice(self._stage, partition)}"
            )
        else:
            if header is not None and looked_ahead:
                self._check_beginning(partition, offset, link, header)
            return header
        self._look_ahead(chain, offset, reason)
        return chain.take(offset, timestamp_us, packed, value)

    def _check_beginning(
        self, partition: int, offset: int, before: Link | None, genesis: Header
    ) -> None:
        """Tell what a generation that was looked for begins with; stop if it counted twice."""
        stored = self._starts_of[partition].stored.get(genesis.events_topic_id, 0)
        if genesis.events_from < stored:
            raise JournalBroken(
                f"{self.topic}-{partition}, offset {offset}: generation {genesis.generation}"
                f" counts from event {genesis.events_from} on, and the events up to {stored} are"
                " stored already: they would be counted twice. Remove the rows of those events"
                " that are of earlier generations, then start the sink again"
            )
        log.error(
            "%s-%d goes on at offset %d: generation %d counts from event %d on, the feed had come"
            " to event %d",
            self.topic,
            partition,
            offset,
            genesis.generation,
            genesis.events_from,
            0 if before is None else before.events_position,
        )

    def _pass_over(self, message: Message, error: KafkaError) -> None:
        """Go on behind a record that the client cannot read, in search of a later generation."""
        partition, offset = place_of(message)
        chain = self._chains.get(partition)
        if chain is None:
            return
        offset = max(offset, self._next[partition])
        if not chain.looks_ahead:
            reason = f"{self.topic}-{partition}, offset {offset} cannot be read: {error.str()}"
            self._look_ahead(chain, offset, f"{reason}. {advice(self._stage, partition)}")
        chain.cannot_read(offset)
        self._next[partition] = offset + 1
        self._consumer.seek(TopicPartition(self.topic, partition, offset + 1))

    def _look_ahead(self, chain: ChainReader, offset: int, reason: str) -> None:
        log.error("%s (a later generation is looked for behind it)", reason)
        chain.look_ahead(offset, reason)

    def _at_end(self, partition: int) -> None:
        """Stop if a later generation was looked for up to the end of the journal."""
        chain = self._chains.get(partition)
        if chain is None:
            return
        try:
            chain.at_end()
        except ChainBroken as error:
            raise JournalBroken(str(error)) from error

    def _rewind(self, partition: int, offset: int, link: Link, hole: ChainHole) -> None:
        """Go back to the kept link, once for each place: a record may only have been missed."""
        log.warning(
            "%s-%d: %s; going back to offset %d", self.topic, partition, hole, link.next_offset
        )
        self._rewound_at[partition] = offset
        self._start_again([partition])

    def _start_again(self, partitions: Iterable[int]) -> None:
        again = list(partitions)
        self._on_revoked(again, False)
        for start in self._starts([TopicPartition(self.topic, number) for number in again]):
            self._consumer.seek(start)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # An exception must not be lost in the client's callback: the caller of poll gets it.
        try:
            consumer.assign(self._starts(partitions))
        except Exception as error:  # noqa: BLE001 - raised again by poll
            self._failure = error

    def _starts(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        starts = []
        for number in [one.partition for one in partitions]:
            start = self._on_assigned(number, partial(self._committed_link, number))
            chain = ChainReader(start.link)
            if start.lost is not None:
                log.error("%s (a later generation is looked for)", start.lost)
                chain.look_ahead(start.offset, start.lost)
            self._chains[number] = chain
            self._starts_of[number] = start
            self._next[number] = start.offset
            starts.append(TopicPartition(self.topic, number, start.offset))
        return starts

    def _committed_link(self, partition: int) -> Link | None:
        place = TopicPartition(self.topic, partition)
        (committed,) = self._consumer.committed([place], timeout=ANSWER_S)
        if committed.offset < 0:
            return None
        try:
            return Link.from_metadata(committed.metadata or "")
        except ValueError:
            raise JournalBroken(
                f"the committed offset {committed.offset} of {self.topic}-{partition} has"
                " no link with it: something other than the sink has set it. Delete the consumer"
                " group; the sink then goes on from the positions in ClickHouse"
            ) from None

    def _revoked(self, partitions: list[TopicPartition], *, may_commit: bool) -> None:
        numbers = [one.partition for one in partitions]
        try:
            self._on_revoked(numbers, may_commit)
        except Exception as error:  # noqa: BLE001 - raised again by poll
            self._failure = error
        for number in numbers:
            self._chains.pop(number, None)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
