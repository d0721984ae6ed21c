"""Dead letters: what a journal record refused, fetched from its log, ready for the queue."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from meterstream.schemas import deadletters as headers
from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.kafka_errors import UNREADABLE
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.schemas.topics import CATALOG, CONTROL, EVENTS, LEAST_MESSAGE_BYTES
from meterstream.schemas.verdicts import Verdict, reason_name
from meterstream.streams.journal.reader import STALL_SECONDS, JournalRecord
from meterstream.streams.kafka import (
    RETRY_SECONDS,
    BrokerUnavailable,
    log_bounds,
    read_some,
    timestamp_us,
)

from .crossings import KindUnknown

TOPICS: Final = frozenset({EVENTS, CONTROL, CATALOG})
_REASONS: Final = frozenset(Verdict)
SEEK_OFFSETS: Final = 5_000
"""Records further away than this are sought; nearer ones are reached by reading on."""
MAX_DETAIL: Final = 1_000
MAX_KEY_BYTES: Final = 4 * 1024
MAX_VALUE_BYTES: Final = LEAST_MESSAGE_BYTES - 32 * 1024
"""With key and headers a letter is smaller than what every topic must take."""
SETTLE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reject:
    """One entry of a journal record's REJECTS: `topic` is one of TOPICS."""

    topic: str
    offset: int
    verdict: int
    detail: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One record for the dead-letter queue."""

    reason: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    is_lost: bool


def rejects_of(section: bytes | memoryview | None, offset: int) -> list[Reject]:
    """Return what the REJECTS of the record at `offset` refuse.

    Raises KindUnknown for a reason or topic that this release does not know, MalformedRecord if it
    is no such section.
    """
    if section is None:
        return []
    try:
        found = [Reject(*entry) for entry in json.loads(bytes(section))]
        unknown = [one for one in found if one.topic not in TOPICS or one.verdict not in _REASONS]
    except (ValueError, TypeError) as error:
        raise MalformedRecord(
            f"the REJECTS of journal offset {offset} cannot be read: {error}"
        ) from error
    for reject in unknown:
        raise KindUnknown(
            f"journal offset {offset} refuses a record of {reject.topic[:40]!r} by verdict"
            f" {reject.verdict}, which this release does not know"
        )
    return found


class RawReader:
    """Fetches records by their offsets, whatever transaction they came with."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def fetch(self, topic: str, partition: int, offsets: Iterable[int]) -> dict[int, Message]:
        """Return the records at `offsets`; those that the log no longer has are left out.

        In the place of one that is UNREADABLE comes the client's error.
        """
        wanted = sorted(set(offsets))
        found: dict[int, Message] = {}
        start, end = self._bounds(topic, partition, wanted)
        wanted = [offset for offset in wanted if start <= offset < end]
        position: int | None = None
        heard = time.monotonic()
        try:
            while wanted:
                if position is None or not 0 <= wanted[0] - position <= SEEK_OFFSETS:
                    position = wanted[0]
                    self._consumer.assign([TopicPartition(topic, partition, position)])
                for message in read_some(self._consumer, 500, 0.2):
                    heard = time.monotonic()
                    error, offset = message.error(), message.offset() or 0
                    if error is not None:
                        if error.code() == KafkaError._AUTO_OFFSET_RESET:
                            return found | self.fetch(topic, partition, wanted)
                        if error.name() in UNREADABLE and wanted:
                            if position == wanted[0]:
                                found[wanted.pop(0)] = message
                            position = None  # reading on would give the same again
                            break
                        continue
                    position = offset + 1
                    while wanted and wanted[0] < offset:
                        wanted.pop(0)  # the log has no record there any more
                    if wanted and wanted[0] == offset:
                        found[offset] = message
                        wanted.pop(0)
                if time.monotonic() - heard > STALL_SECONDS:
                    raise BrokerUnavailable(f"{topic}-{partition} cannot be read at {wanted[0]}")
        finally:
            self._consumer.unassign()
        return found

    def _bounds(self, topic: str, partition: int, wanted: list[int]) -> tuple[int, int]:
        """Return the log's bounds, once they hold all that is `wanted` or have had time to.

        A broker that has just started may say for a moment that its log ends earlier.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            start, end = log_bounds(self._consumer, topic, partition)
            if not wanted or wanted[-1] < end or time.monotonic() > deadline:
                return start, end
            time.sleep(RETRY_SECONDS)


def letter_of(
    reject: Reject, record: JournalRecord, topic: str, partition: int, raw: Message | None
) -> Letter:
    """Return the dead letter for `reject`.

    `raw` is None if retention took its record, and the client's error if that is damaged.
    """
    reason = reason_name(reject.verdict)
    is_damaged = raw is not None and raw.error() is not None
    raw = None if is_damaged else raw
    value = raw.value() if raw is not None else b""
    texts: dict[str, Any] = {
        headers.REASON: reason,
        headers.DETAIL: reject.detail[:MAX_DETAIL],
        headers.TOPIC: topic,
        headers.PARTITION: partition,
        headers.OFFSET: reject.offset,
        headers.GENERATION: record.header.generation,
        headers.JOURNAL_OFFSET: record.offset,
    }
    if reject.topic == "events":
        texts[headers.TOPIC_ID] = record.header.events_topic_id
    if raw is None:
        texts[headers.MISSING] = headers.DAMAGED if is_damaged else headers.RETENTION
    else:
        texts[headers.LOG_TIME] = format_rfc3339(from_us(timestamp_us(raw)))
        if value is None:
            texts[headers.MISSING] = headers.NULL_VALUE
    texts |= _told_by(value)
    key = raw.key() if raw is not None else None
    if not isinstance(key, bytes) or len(key) > MAX_KEY_BYTES:
        key = None
    if value is not None and len(value) > MAX_VALUE_BYTES:
        # The topic takes LEAST_MESSAGE_BYTES, and no event may be as large as that.
        texts |= {headers.MISSING: headers.TOO_LARGE, headers.BYTES: len(value)}
        value = b""
    return Letter(
        reason,
        key,
        value,
        [(name, str(text).encode(errors="replace")) for name, text in texts.items()],
        raw is None,
    )


def _told_by(value: bytes | None) -> Mapping[str, str]:
    """Return type and team as the refused bytes name them, if they can be read at all."""
    try:
        event = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(event, dict):
        return {}
    data = event.get("data")
    told = {
        headers.EVENT_TYPE: event.get("type"),
        headers.TEAM_ID: data.get("team_id") if isinstance(data, dict) else None,
    }
    return {name: text[:128] for name, text in told.items() if isinstance(text, str)}
