"""Dead letters as they stand in the topic, oldest first in each partition."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Message

from meterstream.cli.connection import Connection
from meterstream.cli.topic_reader import read_topic
from meterstream.schemas import deadletters as headers
from meterstream.schemas.times import from_us
from meterstream.schemas.topics import DLQ


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: where it lies, when it came there, what it says and the refused bytes."""

    partition: int
    offset: int
    written_at: datetime
    headers: dict[str, str]
    key: bytes | None
    value: bytes

    @property
    def place(self) -> str:
        """Its coordinates in the dead-letter topic, as `dlq show` takes them."""
        return f"{self.partition}:{self.offset}"

    @property
    def reason(self) -> str:
        """The one reason for which it is here."""
        return self.headers.get(headers.REASON, "")

    @property
    def came_from(self) -> str:
        """The coordinates of the refused record: topic/partition/offset."""
        names = (headers.TOPIC, headers.PARTITION, headers.OFFSET)
        return "/".join(self.headers.get(name, "?") for name in names)


def read_letters(
    connection: Connection, *, partition: int | None = None, from_offset: int = OFFSET_BEGINNING
) -> Generator[Letter, None, None]:
    """Read what stands in the dead-letter topic now, all of it or one partition.

    Raises Unreachable where the topic is missing or the broker stops answering.
    """
    for message in read_topic(connection, DLQ, partition=partition, from_offset=from_offset):
        yield _letter(message)


def _letter(message: Message) -> Letter:
    _, written_ms = message.timestamp()
    key, value = message.key(), message.value()
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    texts = {name: (text or b"").decode("utf-8", "replace") for name, text in pairs}
    return Letter(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        written_at=from_us(max(written_ms, 0) * 1000),
        headers=texts,
        key=key if isinstance(key, bytes) else None,
        value=value if isinstance(value, bytes) else b"",
    )
