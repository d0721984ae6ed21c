"""Writes journal records durably, and says where each one went."""

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass
from typing import Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from meterstream.schemas.journal import HEADER_KEY
from meterstream.streams.settings import MeterSettings

from .errors import JournalMisset, OutcomeUnknown, RecordTooLarge

log = logging.getLogger("meterstream.journal")

POLL_SECONDS: Final = 0.2
OVERHEAD_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an acknowledged record stands, and the broker's time of it."""

    offset: int
    timestamp_us: int


class RecordWriter:
    """An idempotent producer with its own thread for the network, awaited from one event loop.

    The network goes on while the loop computes. Records go to the partition that is named.
    """

    def __init__(self, settings: MeterSettings) -> None:
        self._timeout_seconds = settings.journal_timeout_seconds
        self._config = settings.client(
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            # About a quarter smaller than lz4, for a tenth to half of a microsecond more an event.
            # What is broken in it is nearly always refused: behind a flipped byte of an lz4 block
            # librdkafka may give neither a record nor an error (8 of 100 flips, with zstd 1).
            compression_type="zstd",
            compression_level=1,
            message_max_bytes=settings.journal_max_bytes + OVERHEAD_BYTES,
            message_timeout_ms=int(settings.journal_timeout_seconds * 1000),
        )
        self._producer = Producer(self._config)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="journal-writer", daemon=True)
        self._thread.start()

    async def send(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Appended:
        """Write one record and wait for its acknowledgement.

        Raises RecordTooLarge if nothing was written, OutcomeUnknown if that cannot be told.
        """
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[Appended] = loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            outcome = _failure(error) if error is not None else _appended(message)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, acknowledged, outcome)

        try:
            self._producer.produce(
                topic,
                key=key,
                value=value,
                partition=partition,
                headers=headers,  # type: ignore[arg-type]
                on_delivery=delivered,
            )
        except KafkaException as failure:
            outcome = _failure(failure.args[0])
            self._renew()
            raise outcome from None
        except BufferError:
            raise OutcomeUnknown("the producer's queue is full: Kafka is too slow") from None
        try:
            # The producer gives up first; this is for a producer that does not report at all.
            return await asyncio.wait_for(acknowledged, self._timeout_seconds + 5)
        except TimeoutError:
            self._renew()
            raise OutcomeUnknown(
                f"{topic}-{partition}: no acknowledgement in {self._timeout_seconds:.0f} s"
            ) from None
        except OutcomeUnknown:
            self._renew()
            raise

    def close(self) -> None:
        """Stop the producer; records that are not acknowledged yet stay unknown."""
        self._stopped.set()
        self._thread.join()
        self._producer.flush(1.0)

    def _renew(self) -> None:
        """Take a new producer: one that failed may refuse everything from now on."""
        old, self._producer = self._producer, Producer(self._config)
        old.purge(in_flight=False, blocking=False)
        threading.Thread(target=old.flush, args=(self._timeout_seconds,), daemon=True).start()

    def _poll(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(POLL_SECONDS)


class JournalWriter:
    """Appends to one journal topic."""

    def __init__(self, records: RecordWriter, topic: str) -> None:
        self._records = records
        self.topic = topic

    async def append(self, partition: int, header: bytes, value: bytes) -> Appended:
        """Append one record; see RecordWriter.send for what it raises."""
        try:
            return await self._records.send(
                self.topic, partition, key=None, value=value, headers=[(HEADER_KEY, header)]
            )
        except RecordTooLarge:
            raise RecordTooLarge(
                f"{self.topic}-{partition} refuses a record of {len(value)} bytes: raise the"
                " topic's max.message.bytes, as `meterstream topics` does, or lower"
                " METERSTREAM_JOURNAL_MAX_BYTES"
            ) from None


def _settle(future: "asyncio.Future[Appended]", outcome: Appended | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Appended):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def _failure(error: KafkaError) -> Exception:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return RecordTooLarge(error.str())
    return OutcomeUnknown(error.str())


def _appended(message: Message) -> Appended | Exception:
    kind, timestamp_ms = message.timestamp()
    offset = message.offset()
    if kind != TIMESTAMP_LOG_APPEND_TIME:
        return JournalMisset(
            f"topic {message.topic()} does not stamp records by log append: set"
            " message.timestamp.type=LogAppendTime, as `meterstream topics` does"
        )
    assert offset is not None
    return Appended(offset, timestamp_ms * 1000)
