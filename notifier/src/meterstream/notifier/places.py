"""Where a destination stands in each partition: the committed offsets of its consumer group.

They are all the state there is. An offset is committed when its event was delivered, is on the
dead-letter list, or goes elsewhere; and before the next delivery begins.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from .kafka import TIMEOUT_S

RETRY_S: Final = 0.5

_LOST: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._STATE,
    }
)
"""The partition may be another's now: it goes on from what was committed before."""

log = logging.getLogger(__name__)


class Places:
    """The next offset of each partition, and how it is kept."""

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        find_id: Callable[[], UUID],
        *,
        name: str,
        from_beginning: bool,
        stop: threading.Event,
    ) -> None:
        self.missed = 0
        """Offsets that retention had removed before they were read, as the last `find` saw it."""
        self._consumer = consumer
        self._topic = topic
        self._find_id = find_id
        self._id: UUID | None = None
        self._made_again = False
        self._name = name
        self._from_beginning = from_beginning
        self._stop = stop
        self._next: dict[int, int] = {}
        self._unkept: set[int] = set()

    def find(self, partitions: Iterable[int]) -> list[TopicPartition]:
        """Return where reading begins in each partition.

        Raises KafkaException or KafkaUnavailable where Kafka does not tell.
        """
        self._notice_another(self._find_id())
        self.let_go()
        self.missed = 0
        wanted = [TopicPartition(self._topic, partition) for partition in partitions]
        starts = []
        for committed in self._consumer.committed(wanted, timeout=TIMEOUT_S):
            if committed.error is not None:
                raise KafkaException(committed.error)
            start = self._start(committed)
            partition = committed.partition
            self._next[partition] = start
            if start != committed.offset:
                self._unkept.add(partition)
            starts.append(TopicPartition(self._topic, partition, start))
        return starts

    def passed(self, partition: int, offset: int) -> None:
        """Take it that nothing is left to do for `offset`; `keep` makes it last."""
        self._next[partition] = offset + 1
        self._unkept.add(partition)

    def next_offset(self, partition: int) -> int:
        """Return the first offset of a partition that is not passed."""
        return self._next[partition]

    def keep(self, *, patiently: bool = True) -> bool:
        """Commit what was passed since; patiently until that is done, or the service ends.

        False where it was not done: the partitions may be another's now. This process remembers
        what it did, and does not do it again if they come back.
        """
        while self._unkept:
            offsets = [
                TopicPartition(self._topic, partition, self._next[partition])
                for partition in sorted(self._unkept)
            ]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as failure:
                error = failure.args[0]
                if error.code() not in _LOST and patiently and not self._stop.is_set():
                    log.warning("destination %s: its place is not kept: %s", self._name, error)
                    self._stop.wait(RETRY_S)
                    continue
                log.info("destination %s: its place was not kept: %s", self._name, error)
                return False
            self._unkept.clear()
        return True

    def let_go(self) -> None:
        """Commit nothing more of what was passed: the partitions are others' from here on.

        They may have come further, and Kafka would take an older offset from us all the same.
        """
        self._unkept.clear()

    def _notice_another(self, found: UUID) -> None:
        """Forget what is known of a topic that was made again: Kafka has forgotten it as well."""
        if self._id is not None and found != self._id:
            log.warning(
                "destination %s: %s was made again and is read from its beginning",
                self._name,
                self._topic,
            )
            self._made_again = True
            self._next.clear()
        self._id = found

    def _start(self, committed: TopicPartition) -> int:
        """Return where to begin in one partition."""
        partition, offset = committed.partition, committed.offset
        low, high = self._bounds(partition)
        if offset < 0:  # served for the first time
            remembered = self._next.get(partition)
            start = low if self._from_beginning or self._made_again else high
            return start if remembered is None else max(low, remembered)
        offset = max(offset, self._next.get(partition, 0))
        if offset < low:
            self.missed += low - offset
            log.error(
                "destination %s: retention removed %d offsets of partition %d before they were"
                " read: what they held is not delivered",
                self._name,
                low - offset,
                partition,
            )
        return min(max(offset, low), high)

    def _bounds(self, partition: int) -> tuple[int, int]:
        found = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=TIMEOUT_S, cached=False
        )
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return int(found[0]), int(found[1])
