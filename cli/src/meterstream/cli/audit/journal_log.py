"""Reads a journal partition record by record, and gets past what is broken in it.

By aiokafka, because librdkafka ends the process with a failed assertion when `check.crcs` finds a
broken batch that others follow in one fetch; aiokafka raises an exception there.
"""

import asyncio
import ssl
import struct
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    UnsupportedCodecError,
)

from meterstream.schemas.journal import HEADER_KEY

from .follow import Corrupt, End, Raw
from .kafka import ANSWER_S, POLL_S, Broker

BATCH: Final = 200
FETCH_BYTES: Final = 4 * 1024 * 1024

_BROKEN: Final = (
    CorruptRecordException,
    RecordTooLargeError,  # a length that is garbage: the batch seems to go on for ever
    UnsupportedCodecError,
    # What the parser raises where lengths or types within a batch are garbage.
    ArithmeticError,
    AssertionError,
    IndexError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class JournalLog:
    """One journal partition from an offset on, read committed, with every CRC checked."""

    def __init__(self, broker: Broker, topic: str, partition: int, start: int) -> None:
        self._broker = broker
        self._place = TopicPartition(topic, partition)
        self._queue: deque[Raw | Corrupt] = deque()
        self._position = start
        """The next offset to put into the queue."""
        self._heard = time.monotonic()
        self._loop = asyncio.new_event_loop()
        try:
            self._consumer = self._loop.run_until_complete(self._start())
        except (KafkaError, OSError) as error:
            self._loop.close()
            raise broker.unreachable(str(error)) from error

    def next(self) -> Raw | Corrupt | End:
        """Return what comes next; End if nothing does for now."""
        while not self._queue:
            if self._loop.run_until_complete(self._fill()):
                return End(self._position)
        return self._queue.popleft()

    def close(self) -> None:
        """Leave the broker."""
        self._loop.run_until_complete(self._consumer.stop())
        self._loop.close()

    async def _start(self) -> Any:
        consumer = AIOKafkaConsumer(
            **client_settings(self._broker.settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        try:
            await consumer.start()
            consumer.assign([self._place])
            consumer.seek(self._place, self._position)
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    async def _fill(self) -> bool:
        """Put what has arrived into the queue; True if the log ends here for now."""
        try:
            record = await asyncio.wait_for(self._consumer.getone(self._place), POLL_S)
            self._put(record)
            while len(self._queue) < BATCH:
                # What is there already comes without waiting; the rest is fetched meanwhile.
                record = await asyncio.wait_for(self._consumer.getone(self._place), 0.001)
                self._put(record)
        except TimeoutError:
            return await self._is_at_end()
        except OffsetOutOfRangeError:
            return await self._find_back()
        except _BROKEN as error:
            self._skip_to(self._position + 1, _reason(error))
        except KafkaError as error:
            if time.monotonic() - self._heard > ANSWER_S:
                raise self._broker.unreachable(str(error)) from error
        return False

    def _put(self, record: Any) -> None:
        headers = dict(record.headers)
        header = headers.get(HEADER_KEY)
        raw_header = bytes(header) if header is not None else None
        self._queue.append(
            Raw(record.offset, record.timestamp * 1000, raw_header, record.value or b"")
        )
        self._position = record.offset + 1
        self._heard = time.monotonic()

    async def _is_at_end(self) -> bool:
        if self._queue:
            return False
        end = self._consumer.last_stable_offset(self._place)
        position = await self._consumer.position(self._place)
        if end is not None and position >= end:
            self._position = max(self._position, position)
            self._heard = time.monotonic()
            return True
        if time.monotonic() - self._heard > ANSWER_S:
            raise self._broker.unreachable("no answer")
        return False

    async def _find_back(self) -> bool:
        """Go on at the log's beginning if retention took what was to be read, else at its end."""
        starts = await self._consumer.beginning_offsets([self._place])
        if self._position < starts[self._place]:
            self._skip_to(starts[self._place], "retention removed it while the audit was reading")
            return False
        ends = await self._consumer.end_offsets([self._place])
        self._position = ends[self._place]
        self._consumer.seek(self._place, self._position)
        return True

    def _skip_to(self, position: int, reason: str) -> None:
        # Where a broken batch ends is not known: the next offset may lie in it and fail as well.
        self._queue.append(Corrupt(self._position, reason))
        self._position = position
        self._consumer.seek(self._place, position)
        self._heard = time.monotonic()


def _reason(error: Exception) -> str:
    if isinstance(error, CorruptRecordException):
        return "the broker's checksum (CRC) of its batch is wrong"
    return f"its batch is garbled ({type(error).__name__}: {error})"


def client_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return librdkafka's settings of address and security as aiokafka takes them."""
    found: dict[str, Any] = {"bootstrap_servers": settings["bootstrap.servers"]}
    protocol = str(settings.get("security.protocol", "PLAINTEXT"))
    found["security_protocol"] = protocol
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.get("ssl.ca.location"))
        if "ssl.certificate.location" in settings:
            context.load_cert_chain(
                settings["ssl.certificate.location"],
                settings.get("ssl.key.location"),
                settings.get("ssl.key.password"),
            )
        found["ssl_context"] = context
    if protocol.startswith("SASL"):
        found["sasl_mechanism"] = settings["sasl.mechanism"]
        found["sasl_plain_username"] = settings["sasl.username"]
        found["sasl_plain_password"] = settings["sasl.password"]
    return found
