"""One destination being served: its own consumer group, one delivery at a time."""

import contextlib
import logging
import threading
import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterstream.schemas import topics as names
from meterstream.schemas.registry import InvalidEvent, parse_event
from meterstream.schemas.thresholds import ThresholdEvent

from .dead import DeadLetters
from .delivery import Attempts, Delivery
from .errors import KafkaUnavailable
from .file import Destination
from .kafka import Refusals, topic_id
from .metrics import NotifierMetrics
from .parcel import Notice, delivery_id
from .places import Places
from .settings import NotifierSettings

POLL_S: Final = 0.5
KEEP_S: Final = 5.0
"""How often the place is kept while no event is for this destination."""
MEASURE_S: Final = 1.0
RETRY_S: Final = 1.0
LETTER_RETRY_S: Final = 5.0
MAX_POLL_MS: Final = 600_000
"""Longer than an attempt and a commit may take together: others wait so long for a process that
hangs, and never for one that has died."""
QUEUE_KBYTES: Final = 1_024

log = logging.getLogger(__name__)


class Lane:
    """Brings the events of one destination there, in the order of each partition.

    An event whose attempt failed waits with its partition paused, while the others go on; so the
    events of a team stay in order, and no two are under way to the destination at once.
    """

    def __init__(
        self,
        destination: Destination,
        settings: NotifierSettings,
        letters: DeadLetters,
        metrics: NotifierMetrics,
        stop: threading.Event,
    ) -> None:
        self.destination = destination
        self.backlog = 0
        """Events of its partitions that it has still to pass."""
        self.is_failing = False
        """Whether the last attempt of a delivery failed."""
        self._topic = settings.topic(names.THRESHOLDS)
        self._letters = letters
        self._dead = metrics.dead_letters.labels(destination.kind)
        self._missed = metrics.missed_events.labels(destination.kind)
        self._unreadable = metrics.unreadable_events.labels(destination.kind)
        self._stop = stop
        self._attempts = Attempts(destination, settings.backoff, metrics)
        self._waiting: dict[int, Delivery] = {}
        self._to_open: set[int] = set()
        self._assigned: set[int] = set()
        self._was_assigned = False
        self._kept_s = self._measured_s = 0.0
        instance = settings.notifier_instance
        self._consumer = Consumer(
            settings.client(
                **({} if instance is None else {"group_instance_id": instance}),
                group_id=settings.group(destination.name),
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                session_timeout_ms=int(settings.notifier_session_seconds * 1000),
                heartbeat_interval_ms=int(settings.notifier_session_seconds * 250),
                max_poll_interval_ms=MAX_POLL_MS,
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=QUEUE_KBYTES,
                partition_assignment_strategy="roundrobin",
            )
            | {"error_cb": Refusals(settings.kafka_bootstrap)}
        )
        self._places = Places(
            self._consumer,
            self._topic,
            lambda: topic_id(settings, names.THRESHOLDS),
            name=destination.name,
            from_beginning=destination.from_beginning,
            stop=stop,
        )

    @property
    def is_open(self) -> bool:
        """Whether it has its partitions and reads them."""
        return self._was_assigned and not self._to_open

    def run(self) -> None:
        """Deliver until the service is told to stop."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        try:
            while not self._stop.is_set():
                self._turn()
            self._places.keep(patiently=False)
        finally:
            self._consumer.close()

    def _turn(self) -> None:
        """Do a little, and hear of the group: its other members wait for that.

        1. Partitions that are new are opened, and where they begin is kept: an event that comes
           afterwards is this destination's, whatever happens.
        2. A delivery whose time has come is tried again.
        3. The next message is taken, and tried at once.
        """
        self._open()
        due = self._due()
        if due is not None:
            self._try(due)
        message = self._consumer.poll(0 if due is not None else self._patience_s())
        if message is not None:
            self._take(message)
        self._now_and_then()

    # --- the group ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._was_assigned = True
        self._assigned = {each.partition for each in partitions}
        self._to_open = set(self._assigned)
        consumer.assign([])
        numbers = ", ".join(map(str, sorted(self._assigned))) or "none"
        log.info("destination %s: partitions assigned: %s", self.destination.name, numbers)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._places.keep(patiently=False)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget_waiting()
        self._places.let_go()
        self._assigned.clear()
        self._to_open.clear()

    def _open(self) -> None:
        if not self._to_open:
            return
        try:
            starts = self._places.find(sorted(self._assigned))
            if not self._places.keep(patiently=False):
                self._stop.wait(RETRY_S)
                return
            self._consumer.assign(starts)
        except (KafkaException, KafkaUnavailable) as failure:
            log.warning(
                "destination %s: its partitions are not open: %s", self.destination.name, failure
            )
            self._stop.wait(RETRY_S)
            return
        self._to_open.clear()
        self._missed.inc(self._places.missed)

    def _open_again(self) -> None:
        """Read all partitions from where they stand, once Kafka tells where that is."""
        self._forget_waiting()
        self._to_open = set(self._assigned)
        self._consumer.assign([])

    def _forget_waiting(self) -> None:
        """Drop deliveries whose place is not passed: whoever reads their partitions has them."""
        if self._waiting:
            with contextlib.suppress(KafkaException):  # a partition that is another's already
                self._consumer.resume([self._at(partition) for partition in self._waiting])
        self._waiting.clear()
        self.is_failing = False

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    # --- deliveries ---

    def _due(self) -> Delivery | None:
        now_s = time.monotonic()
        if now_s < self._attempts.held_until_s:
            return None
        due = [delivery for delivery in self._waiting.values() if delivery.due_s <= now_s]
        return min(due, key=lambda delivery: delivery.due_s, default=None)

    def _patience_s(self) -> float:
        now_s = time.monotonic()
        held_s = self._attempts.held_until_s - now_s
        left_s = [max(each.due_s - now_s, held_s) for each in self._waiting.values()]
        return max(0.0, min([POLL_S, *left_s]))

    def _take(self, message: Message) -> None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None:
            self._hear(error, partition)
            return
        assert partition is not None
        assert offset is not None
        if partition not in self._assigned or partition in self._to_open:
            return  # it was on its way when the partition was taken away; whoever has it reads it
        if partition in self._waiting:
            # A paused partition gives nothing. If it does, what it gives is read again in its turn.
            self._open_again()
            return
        notice = self._notice(message.value(), partition, offset)
        if notice is None:
            self._places.passed(partition, offset)
            return
        delivery = Delivery(partition, offset, notice, self.destination.target.parcel(notice))
        if time.monotonic() < self._attempts.held_until_s:
            self._wait(delivery)
        else:
            self._try(delivery)

    def _notice(self, value: str | bytes | None, partition: int, offset: int) -> Notice | None:
        """Return the event if it is for this destination."""
        raw = value.encode() if isinstance(value, str) else value
        try:
            event = parse_event(raw, names.THRESHOLDS)
        except InvalidEvent as reason:
            self._unreadable.inc()
            log.error(
                "destination %s: partition %d, offset %d is passed over: %s",
                self.destination.name,
                partition,
                offset,
                reason,
            )
            return None
        assert isinstance(event, ThresholdEvent)
        assert raw is not None
        if not any(route.takes(event) for route in self.destination.routes):
            return None
        return Notice(delivery_id(self.destination.name, event.id), event, raw)

    def _try(self, delivery: Delivery) -> None:
        """Attempt a delivery, and pass its offset if there is nothing left to do.

        1. The attempt.
        2. A delivery that is given up is put on the dead-letter list: it would be lost once its
           offset is passed.
        3. Its offset is passed and kept before the next attempt begins: so a kill can repeat this
           delivery and none before it.
        4. Its partition is read on.
        """
        if delivery.letter is None and not self._attempts.attempt(delivery):
            self.is_failing = True
            if delivery.letter is None:
                self._wait(delivery)
                return
        if delivery.letter is not None and not self._bury(delivery):
            self._wait(delivery)
            return
        self._places.passed(delivery.partition, delivery.offset)
        if not self._places.keep():
            self._open_again()
        elif self._waiting.pop(delivery.partition, None) is not None:
            self._consumer.resume([self._at(delivery.partition)])
        self.is_failing = any(each.attempts for each in self._waiting.values())

    def _wait(self, delivery: Delivery) -> None:
        """Leave the partition where it is until the delivery is due."""
        if delivery.partition not in self._waiting:
            self._waiting[delivery.partition] = delivery
            self._consumer.pause([self._at(delivery.partition)])

    def _bury(self, delivery: Delivery) -> bool:
        """Put a delivery on the dead-letter list; False if that has to be tried again."""
        assert delivery.letter is not None
        try:
            self._letters.add(delivery.letter)
        except KafkaUnavailable as reason:
            log.error("destination %s: %s; trying again", self.destination.name, reason)
            delivery.due_s = time.monotonic() + LETTER_RETRY_S
            return False
        self._dead.inc()
        return True

    def _hear(self, error: KafkaError, partition: int | None) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._assigned:
            # Retention was faster, or the topic was made again: where to go on is looked for.
            self._open_again()
        elif error.code() == KafkaError._FATAL or error.fatal():
            raise KafkaUnavailable(f"Kafka has ended its membership: {error.str()}")
        else:
            log.warning("destination %s: Kafka: %s", self.destination.name, error.str())

    def _now_and_then(self) -> None:
        now_s = time.monotonic()
        if now_s - self._kept_s >= KEEP_S:
            self._kept_s = now_s
            if not self._to_open:
                self._places.keep(patiently=False)
        if now_s - self._measured_s >= MEASURE_S:
            self._measured_s = now_s
            self.backlog = sum(map(self._left, self._assigned - self._to_open))

    def _left(self, partition: int) -> int:
        _, end = self._consumer.get_watermark_offsets(self._at(partition), cached=True)
        return max(0, end - self._places.next_offset(partition))
