"""Keeps snapshots in the compacted snapshots topic: parts of segments, then an index that ends it.

A snapshot of the core is a manifest and segments that are named by their content; both are stored
in parts that fit a message. A snapshot is complete once its index is there, and the index is
written last. Segments are shared between snapshots.
"""

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from meterstream.streams.kafka import BrokerUnavailable, log_bounds, read_some

from .reader import STALL_SECONDS, Interrupted
from .writer import RecordWriter

log = logging.getLogger("meterstream.snapshots")

LAYOUT: Final = 2
KEPT: Final = 2
"""How many snapshots of a partition are kept."""
INDEX: Final = "manifest/"
BLOB: Final = "segment/"


class Blob(msgspec.Struct, frozen=True):
    """A stored sequence of bytes: its name, which follows from its content, and its parts."""

    name: str
    size: int
    crc32: int
    part_bytes: int
    """How many bytes each part has but the last. Meters may be set up with different ones."""

    def part_keys(self) -> list[bytes]:
        """Return the keys of its parts, in order."""
        parts = max(1, -(-self.size // self.part_bytes))
        return [f"{BLOB}{self.name}/{self.part_bytes}/{part}".encode() for part in range(parts)]


class Index(msgspec.Struct, frozen=True):
    """What one snapshot consists of. Its key is `manifest/<journal offset>`."""

    layout: int
    generation: int
    journal_offset: int
    manifest: Blob
    segments: tuple[Blob, ...]

    def key(self) -> bytes:
        """Return the key it is stored under."""
        return f"{INDEX}{self.journal_offset}".encode()

    def age(self) -> tuple[int, int]:
        """Return what the newest snapshot has the highest of."""
        return self.generation, self.journal_offset

    def blob_keys(self) -> set[bytes]:
        """Return the keys of every part that it names."""
        return {key for blob in (self.manifest, *self.segments) for key in blob.part_keys()}


@dataclass(slots=True)
class Catalogue:
    """Which keys of one partition hold something, as far as this process knows."""

    keys: set[bytes] = field(default_factory=set)
    indexes: dict[int, Index] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as bytes: the core's manifest, and the segments by the names it calls them."""

    generation: int
    journal_offset: int
    manifest: bytes
    segments: Mapping[str, bytes]


def blob_of(name: str, data: bytes, part_bytes: int) -> Blob:
    """Return how `data` is stored under `name` in parts of at most `part_bytes`."""
    return Blob(name, len(data), zlib.crc32(data), part_bytes)


def read_catalogue(
    consumer: Consumer, topic: str, partition: int, unwanted: Callable[[], bool] = lambda: False
) -> tuple[Catalogue, dict[bytes, int]]:
    """Return what the partition holds, and the offset of each key's last record."""
    catalogue = Catalogue()
    offsets: dict[bytes, int] = {}
    for offset, key, value in _records(consumer, topic, partition, None, unwanted):
        if value is None:
            catalogue.keys.discard(key)
            offsets.pop(key, None)
            if key.startswith(INDEX.encode()):
                catalogue.indexes.pop(int(key.removeprefix(INDEX.encode())), None)
            continue
        catalogue.keys.add(key)
        offsets[key] = offset
        if key.startswith(INDEX.encode()):
            at = int(key.removeprefix(INDEX.encode()))
            index = _index(value)
            if index is not None:
                catalogue.indexes[at] = index
            else:
                log.warning("the snapshot at journal offset %d is of another version", at)
                catalogue.indexes.pop(at, None)
    return catalogue, offsets


def read_complete(
    consumer: Consumer,
    topic: str,
    partition: int,
    catalogue: Catalogue,
    offsets: Mapping[bytes, int],
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[StoredSnapshot]:
    """Yield the complete snapshots that `read_catalogue` found, newest first.

    The topic is read a second time, so that only the parts that are needed are held in memory.
    """
    for index in sorted(catalogue.indexes.values(), key=Index.age, reverse=True):
        wanted = index.blob_keys()
        if not wanted <= catalogue.keys:
            log.warning("the snapshot at journal offset %d is incomplete", index.journal_offset)
            continue
        first = min(offsets[key] for key in wanted)
        parts = {
            key: value
            for _, key, value in _records(consumer, topic, partition, first, unwanted)
            if key in wanted and value is not None
        }
        try:
            manifest = _join(index.manifest, parts)
            segments = {blob.name: _join(blob, parts) for blob in index.segments}
        except (ValueError, KeyError) as damage:
            log.warning("the snapshot at journal offset %d: %s", index.journal_offset, damage)
            continue
        yield StoredSnapshot(index.generation, index.journal_offset, manifest, segments)


async def write_snapshot(
    records: RecordWriter,
    topic: str,
    partition: int,
    catalogue: Catalogue,
    snapshot: StoredSnapshot,
    part_bytes: int,
) -> int:
    """Store a snapshot; return the bytes that were new. Its index is written last.

    Raises what RecordWriter.send raises; what was stored by then is used by the next try.
    """
    name = hashlib.sha256(snapshot.manifest).hexdigest()
    manifest = blob_of(name, snapshot.manifest, part_bytes)
    segments = {blob_of(name, data, part_bytes): data for name, data in snapshot.segments.items()}
    written = 0
    for blob, data in [*segments.items(), (manifest, snapshot.manifest)]:
        for part, key in enumerate(blob.part_keys()):
            if key in catalogue.keys:
                continue
            piece = data[part * part_bytes : (part + 1) * part_bytes]
            await records.send(topic, partition, key=key, value=piece)
            catalogue.keys.add(key)
            written += len(piece)
    index = Index(LAYOUT, snapshot.generation, snapshot.journal_offset, manifest, tuple(segments))
    await records.send(topic, partition, key=index.key(), value=msgspec.json.encode(index))
    catalogue.indexes[index.journal_offset] = index
    catalogue.keys.add(index.key())
    return written


async def delete_old(
    records: RecordWriter, topic: str, partition: int, catalogue: Catalogue
) -> None:
    """Delete all but the newest KEPT snapshots, and the blobs that none of those names.

    Indexes go first, so that a snapshot that is half deleted is never taken for a complete one.
    Only the writer whose last record is in the chain may do this.
    """
    by_age = sorted(catalogue.indexes.values(), key=Index.age)
    old, newest = by_age[:-KEPT], by_age[-KEPT:]
    kept = {key for index in newest for key in index.blob_keys()}
    for index in old:
        await records.send(topic, partition, key=index.key(), value=None)
        del catalogue.indexes[index.journal_offset]
        catalogue.keys.discard(index.key())
    kept |= {index.key() for index in catalogue.indexes.values()}
    for key in sorted(catalogue.keys - kept):
        await records.send(topic, partition, key=key, value=None)
        catalogue.keys.discard(key)


def _index(value: bytes) -> Index | None:
    """Return the index that `value` holds, None if it is of a layout that is unknown here."""
    try:
        index = msgspec.json.decode(value, type=Index)
    except msgspec.MsgspecError:
        return None
    return index if index.layout == LAYOUT else None


def _join(blob: Blob, parts: Mapping[bytes, bytes]) -> bytes:
    data = b"".join(parts[key] for key in blob.part_keys())
    if len(data) != blob.size or zlib.crc32(data) != blob.crc32:
        raise ValueError(f"segment {blob.name} is damaged")
    return data


def _records(
    consumer: Consumer,
    topic: str,
    partition: int,
    start: int | None,
    unwanted: Callable[[], bool],
) -> Iterable[tuple[int, bytes, bytes | None]]:
    """Yield (offset, key, value) from `start`, or from the beginning, to the end of the log."""
    first, end = log_bounds(consumer, topic, partition)
    position = first if start is None else start
    if position >= end:
        return
    consumer.assign([TopicPartition(topic, partition, position)])
    heard = time.monotonic()
    try:
        while position < end:
            if unwanted():
                raise Interrupted
            for message in read_some(consumer, 50, 0.5):
                error = message.error()
                if error is None:
                    heard = time.monotonic()
                    offset, key = message.offset(), message.key()
                    assert offset is not None
                    position = offset + 1
                    if isinstance(key, bytes):
                        yield offset, key, message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    position = max(position, message.offset() or 0)
            if time.monotonic() - heard > STALL_SECONDS:
                raise BrokerUnavailable(f"{topic}-{partition} gave no record for a while")
    finally:
        consumer.unassign()
