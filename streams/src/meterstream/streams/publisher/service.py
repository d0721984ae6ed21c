"""The publisher: shares the journal's partitions with its group and publishes each one's slot."""

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterstream.schemas import topics as names
from meterstream.schemas.kafka_errors import UNREADABLE
from meterstream.streams.kafka import Broker, BrokerUnavailable
from meterstream.streams.metrics import PublisherMetrics
from meterstream.streams.settings import PublisherSettings

from .letters import RawReader
from .slot import ProducerHangs, Slot, SlotBroken, SlotLost

log = logging.getLogger("meterstream.publisher")

RETRY_SECONDS: Final = 1.0
TURN_SECONDS: Final = 5.0
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
    """Runs in one thread; transactions never stay open between two polls of the group."""

    def __init__(self, settings: PublisherSettings) -> None:
        self._settings = settings
        self._broker = Broker(settings)
        self.metrics = PublisherMetrics()
        self._journal = settings.topic(names.JOURNAL)
        self._assigned: set[int] = set()
        self._slots: dict[int, Slot] = {}
        self._retry_at: dict[int, float] = {}
        self._broken: dict[int, str] = {}
        self._was_assigned = False
        self._turned = time.monotonic()
        self._raw = RawReader(self._broker.consumer(fetch_wait_max_ms=20))
        self._consumer = Consumer(
            settings.client(
                group_id=settings.topic(settings.publisher_group),
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
                messages = self._consumer.consume(
                    self._settings.publisher_max_records,
                    self._settings.publisher_interval_ms / 1000,
                )
                self._publish(messages)
                self._measure()
        finally:
            for slot in self._slots.values():
                slot.close()
            self._consumer.close()

    # --- the group ---

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Paused by not being assigned: each one is read from its link once its slot is open.
        self._was_assigned = True
        self._assigned = {tp.partition for tp in partitions}
        self._slots.clear()
        self._retry_at.clear()
        self._broken.clear()
        self.metrics.stopped_partitions.clear()
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
        for partition, slot in list(self._slots.items()):
            try:
                if found.records[partition]:
                    slot.publish(found.records[partition])
                else:
                    slot.commit_position()
                if partition in found.unreadable:
                    slot.pass_over(found.unreadable[partition])
                elif partition in found.ends:
                    slot.at_end()
            except ProducerHangs as reason:
                for each in list(self._slots):
                    self._try_later(each, reason)
                return
            except (SlotLost, BrokerUnavailable) as reason:
                self._try_later(partition, reason)
            except SlotBroken as reason:
                self._break(partition, reason)
        if found.unreadable.keys() & self._slots.keys():
            self._read_slots()  # the client would give the same again

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
        for partition, slot in self._slots.items():
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
