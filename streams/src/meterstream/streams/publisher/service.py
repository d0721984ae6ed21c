"""The publisher: shares the journal's partitions with its group and publishes each one's slot."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterstream.schemas import topics as names
from meterstream.schemas.kafka_errors import UNREADABLE
from meterstream.streams.kafka import Broker, BrokerUnavailable, read_some
from meterstream.streams.metrics import PublisherMetrics
from meterstream.streams.settings import PublisherSettings

from .heartbeats import Heartbeats
from .letters import RawReader
from .reading import SlotBroken
from .slot import NEVER, Slot
from .team_usage import TeamUsage
from .transactions import ProducerHangs, SlotLost

log = logging.getLogger("meterstream.publisher")

RETRY_SECONDS: Final = 1.0
TURN_SECONDS: Final = 5.0
LONGEST_WAIT_SECONDS: Final = 0.25
"""How long the loop waits for records at most: heartbeats are due, or it is to end."""
PARALLEL: Final = 8
"""How many transactions go on at a time: most of one is waiting for brokers."""
SILENT_SECONDS: Final = 120.0
"""A loop that did not turn for this long is not healthy."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the client gave, by partition."""

    records: dict[int, list[Message]] = field(default_factory=lambda: defaultdict(list))
    unreadable: dict[int, Message] = field(default_factory=dict)
    """A record that the client cannot read: behind those before it."""
    ends: set[int] = field(default_factory=set)


class Publisher:
    """Runs in one thread, but for the transactions of several partitions, which go on together.

    None of them stays open between two polls of the group.

    Raises TopicMissing or BrokerUnavailable where it cannot learn how `org-usage` is divided.
    """

    def __init__(self, settings: PublisherSettings) -> None:
        self._settings = settings
        self._broker = Broker(settings)
        self.metrics = PublisherMetrics()
        self._journal = settings.topic(names.JOURNAL)
        self._assigned: set[int] = set()
        self._slots: dict[int, Slot] = {}
        self._retry_at: dict[int, float] = {}
        self._broken: dict[int, str] = {}
        self._told_clocks_us: dict[int, int] = {}
        """The clocks of the last heartbeats, also of partitions whose slot is lost or broken."""
        self._was_assigned = False
        self._turned = time.monotonic()
        self._raw = RawReader(self._broker.consumer(fetch_wait_max_ms=20))
        self._heartbeats = Heartbeats(settings)
        self._usage = self._usage_of_teams()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="transaction")
        self._consumer = Consumer(
            settings.client(
                group_id=settings.group_id(settings.publisher_group),
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                isolation_level="read_committed",
                session_timeout_ms=6_000,
                max_poll_interval_ms=60_000,
                heartbeat_interval_ms=1_500,
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=65_536,
                partition_assignment_strategy="roundrobin",
            )
        )

    def _usage_of_teams(self) -> TeamUsage | None:
        settings = self._settings
        if settings.stage == "organisations":
            return None
        partitions = self._broker.partitions(settings.topic(names.ORG_USAGE))
        return TeamUsage(f"/{settings.topic(names.EVENTS)}", partitions)

    def run(self, stopped: threading.Event) -> None:
        """Publish until `stopped` is set."""
        self._consumer.subscribe(
            [self._journal],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        try:
            while not stopped.is_set():
                self._turned = time.monotonic()
                # Slots open before reading only: messages that a rebalance overtook while they
                # were read belong to slots that are closed by then, and are read again.
                self._open_slots()
                self._publish(
                    read_some(self._consumer, self._settings.publisher_max_records, self._wait_s())
                )
                self._send_heartbeats()
                self._measure()
        finally:
            self._pool.shutdown()
            for slot in self._slots.values():
                slot.close()
            self._heartbeats.close()
            self._consumer.close()

    def _wait_s(self) -> float:
        """Return how long there is nothing to do but to wait for records."""
        due_at = min((slot.due_at for slot in self._slots.values()), default=NEVER)
        return min(max(0.0, due_at - time.monotonic()), LONGEST_WAIT_SECONDS)

    # --- the group ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Paused by not being assigned: each one is read from its link once its slot is open.
        self._was_assigned = True
        self._assigned = {tp.partition for tp in partitions}
        self._slots.clear()
        self._retry_at.clear()
        self._broken.clear()
        self.metrics.stopped_partitions.clear()
        self.metrics.knowledge_age_seconds.clear()
        self._told_clocks_us.clear()
        consumer.assign([])
        log.info("partitions assigned: %s", ", ".join(map(str, sorted(self._assigned))) or "none")

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned.clear()
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()

    def _open_slots(self) -> None:
        begun = now = time.monotonic()
        for partition in sorted(self._assigned - set(self._slots) - set(self._broken)):
            if self._retry_at.get(partition, 0.0) > now:
                continue
            if time.monotonic() - begun > TURN_SECONDS:
                return  # the group must hear of us
            try:
                slot = Slot(
                    partition,
                    settings=self._settings,
                    broker=self._broker,
                    consumer=self._consumer,
                    raw=self._raw,
                    metrics=self.metrics,
                    usage=self._usage,
                )
                position = slot.next_offset
            except (SlotLost, BrokerUnavailable, KafkaException) as reason:
                self._try_later(partition, reason)
                continue
            except SlotBroken as reason:
                self._break(partition, reason)
                continue
            self._slots[partition] = slot
            self._read_slots()
            log.info("partition %d is published from journal offset %d", partition, position)

    def _read_slots(self) -> None:
        """Read the partitions of all open slots, each on from where its chain stands."""
        self._consumer.assign(
            [
                TopicPartition(self._journal, partition, slot.next_offset)
                for partition, slot in self._slots.items()
            ]
        )

    # --- publishing ---

    def _publish(self, messages: list[Message]) -> None:
        found = self._sort(messages)
        broken: dict[int, SlotBroken] = {}
        has_rest = False
        for partition, slot in self._slots.items():
            try:
                if not slot.take(found.records[partition]):
                    has_rest = True
                elif partition in found.unreadable:
                    slot.pass_over(found.unreadable[partition])
                elif partition in found.ends:
                    slot.at_end()
            except SlotBroken as reason:
                broken[partition] = reason
        # What was decided before a break is published.
        self._commit(broken)
        for partition in broken.keys() & self._slots.keys():
            self._break(partition, broken[partition])
        if has_rest or found.unreadable.keys() & self._slots.keys():
            self._read_slots()  # of the unreadable the client would give the same again

    def _commit(self, broken: Mapping[int, SlotBroken]) -> None:
        """Commit the slots that are due, and those that will not go on, side by side."""
        now = time.monotonic()
        due: dict[int, Slot] = {}
        for partition, slot in list(self._slots.items()):
            if slot.due_at <= now or (partition in broken and slot.due_at < NEVER):
                try:
                    slot.prepare()
                    due[partition] = slot
                except BrokerUnavailable as reason:
                    self._try_later(partition, reason)
        futures = {partition: self._pool.submit(slot.commit) for partition, slot in due.items()}
        wait(futures.values())
        lost: dict[int, SlotLost] = {}
        for partition, future in futures.items():
            try:
                future.result()
            except SlotLost as reason:
                lost[partition] = reason
        hanging = [each for each in lost.values() if isinstance(each, ProducerHangs)]
        if hanging:
            lost = dict.fromkeys(self._slots, hanging[0])
        for partition, loss in lost.items():
            self._try_later(partition, loss)

    def _send_heartbeats(self) -> None:
        for slot in self._slots.values():
            place = slot.heartbeat()
            if place is not None:
                self._heartbeats.send(place, slot.delivered(place))
        self._heartbeats.poll()

    def _sort(self, messages: list[Message]) -> "_Found":
        """Tell apart what the client gave, and take up anew what it cannot find."""
        found = _Found()
        for message in messages:
            error, partition = message.error(), message.partition()
            if partition is None:
                if error is not None:
                    log.warning("Kafka: %s", error.str())
            elif error is None:
                found.records[partition].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                found.ends.add(partition)
            elif error.name() in UNREADABLE:
                found.unreadable[partition] = message
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._slots:
                # Retention was faster, or the journal was made again: a new slot looks for itself.
                self._try_later(partition, SlotLost(error.str()))
            else:
                log.warning("partition %d: %s", partition, error.str())
        return found

    def _try_later(self, partition: int, reason: Exception) -> None:
        log.warning("partition %d: %s; it is taken up anew", partition, reason)
        self._retry_at[partition] = time.monotonic() + RETRY_SECONDS
        self._drop(partition)

    def _break(self, partition: int, reason: SlotBroken) -> None:
        log.error("partition %d is stopped: %s", partition, reason)
        self._broken[partition] = str(reason)
        self.metrics.stopped_partitions.labels(str(partition)).set(1)
        self._drop(partition)

    def _drop(self, partition: int) -> None:
        slot = self._slots.pop(partition, None)
        if slot is not None:
            slot.close()
            self._read_slots()

    # --- what others see ---

    def _measure(self) -> None:
        now_us = time.time_ns() // 1000
        for partition, clock_us in self._told_clocks_us.items():
            age_s = max(0, now_us - clock_us) / 1e6
            self.metrics.knowledge_age_seconds.labels(str(partition)).set(age_s)
        for partition, slot in self._slots.items():
            if slot.told_clock_us is not None:
                self._told_clocks_us[partition] = slot.told_clock_us
            _, end = self._consumer.get_watermark_offsets(
                TopicPartition(self._journal, partition), cached=True
            )
            self.metrics.journal_lag_records.labels(str(partition)).set(
                max(0, end - slot.next_offset) if end >= 0 else 0
            )

    def unhealthy(self) -> dict[str, Any]:
        """Return what is broken, by name."""
        silent = time.monotonic() - self._turned
        return {"loop": f"silent for {silent:.0f} s"} if silent > SILENT_SECONDS else {}

    def unready(self) -> dict[str, Any]:
        """Return what keeps the publisher from publishing, by name."""
        if not self._was_assigned:
            return {"group": "waiting for partitions"}
        faults: dict[str, Any] = {}
        if self._broken:
            faults["stopped"] = {str(p): reason for p, reason in self._broken.items()}
        opening = sorted(self._assigned - set(self._slots) - set(self._broken))
        if opening:
            faults["opening"] = opening
        return faults
