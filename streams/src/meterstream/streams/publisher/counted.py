"""Up to where the usage of teams is part of what organisations' limits were decided from.

A record tells it of those partitions of the events topic from which it counted some, so whoever
tells all must remember. What is told is told in the transaction that moves the link past its
record, by the heartbeat at its end. So after a restart the last heartbeat up to the link has all.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from confluent_kafka import Message
from pydantic import ValidationError

from meterstream.schemas.journal import Link, MalformedRecord
from meterstream.schemas.thresholds import LimitHeartbeat, heartbeat_key
from meterstream.streams.journal.reader import read_log
from meterstream.streams.kafka import Broker, log_bounds

from .place import AsOf

log = logging.getLogger("meterstream.publisher")

LOOK_BACK_OFFSETS: Final = 5_000
"""How far back is looked for the last heartbeat at first; then eight times as far, and so on."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_decode: Final = msgspec.json.Decoder(list[tuple[UUID, _Number, _Number, _Number, _Number]]).decode


class Counted:
    """What is known of it: of each partition the last that was told, as the meter keeps it."""

    def __init__(self, known: Iterable[AsOf] = ()) -> None:
        self._known = {one.partition: one for one in known}
        self._all: tuple[AsOf, ...] | None = None

    def all(self) -> Sequence[AsOf]:
        """Return it, ordered by partition."""
        if self._all is None:
            self._all = tuple(self._known[key] for key in sorted(self._known))
        return self._all

    def take(self, told: Iterable[AsOf], *, anew: bool) -> None:
        """Take what a valid record tells; a genesis tells all `anew`."""
        if anew:
            self._known.clear()
        self._known.update({one.partition: one for one in told})
        self._all = None


def counted_of(section: bytes | memoryview | None, offset: int) -> list[AsOf]:
    """Return what the COUNTED of the record at `offset` tells; MalformedRecord if unreadable."""
    if section is None:
        return []
    try:
        return [AsOf(*entry) for entry in _decode(section)]
    except ValueError as error:
        raise MalformedRecord(
            f"the COUNTED of journal offset {offset} cannot be read: {error}"
        ) from error


def counted_before(broker: Broker, limit_states: str, partition: int, link: Link) -> Counted:
    """Return what was told up to `link`, by the last heartbeat of organisations that tells of it.

    It reads what is not committed too, for the transactions of others must not hide ours. One of
    ours that was aborted tells of more than its link, and is passed over.
    """
    reader = broker.consumer()
    try:
        begin, end = log_bounds(reader, limit_states, partition)
        upto, width = end, LOOK_BACK_OFFSETS
        while upto > begin:
            start = max(begin, end - width)
            messages = (
                message for _, message in read_log(reader, limit_states, partition, start, upto)
            )
            found = list(_heartbeats(messages, partition, link))
            if found:
                # A publisher that slept may have told an older one behind it.
                last = max(found, key=lambda beat: beat.as_of.journal_offset)
                return Counted(AsOf(**one.model_dump()) for one in last.counted)
            upto, width = start, width * 8
    finally:
        reader.close()
    log.warning(
        "partition %d: %s has no heartbeat of organisations up to journal offset %d: up to where"
        " usage of teams is counted is told anew as it is counted",
        partition,
        limit_states,
        link.prev,
    )
    return Counted()


def _heartbeats(
    messages: Iterable[Message], partition: int, link: Link
) -> Iterator[LimitHeartbeat]:
    key = heartbeat_key(partition, "organisations").encode()
    for message in messages:
        value = message.value()
        if message.error() is not None or message.key() != key or value is None:
            continue
        try:
            beat = LimitHeartbeat.model_validate_json(value)
        except ValidationError:
            continue  # not ours
        if beat.as_of.generation == link.generation and beat.as_of.journal_offset <= link.prev:
            yield beat
