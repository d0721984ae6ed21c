"""`meterstream meter --new-generation`: begins anew where a state or a reader cannot go on."""

import asyncio
import logging
from collections.abc import Collection

from .core import Policy, take_snapshot
from .journal import JournalWriter, Ledger, NotJoined, RecordWriter
from .journal.genesis import NewGeneration, new_generation
from .journal.restore import Topics, restore
from .journal.snapshots import StoredSnapshot, delete_old, read_catalogue, write_snapshot
from .kafka import Broker
from .settings import MeterSettings

log = logging.getLogger("meterstream.meter")


async def begin_where_needed(
    broker: Broker,
    settings: MeterSettings,
    topics: Topics,
    policy: Policy,
    partitions: int,
    ledger: Ledger | None = None,
    chosen: Collection[int] = (),
) -> list[int]:
    """Begin a new generation for each partition that does not join; return those partitions.

    Partitions whose state joins are left alone. If some are `chosen`, it begins for those, whether
    they join or not, and for no other: where a record is broken or gone that only a snapshot lies
    behind, the meter goes on, and nobody else can. Raises NotJoined, before anything is written for
    that partition, if nothing says where it has to go on, and LedgerUnavailable if ClickHouse is
    needed for that and cannot tell.
    """
    begun = []
    records = RecordWriter(settings)
    try:
        for partition in sorted(chosen) or range(partitions):
            if not chosen and await asyncio.to_thread(
                _joins, broker, topics, policy, partition, ledger
            ):
                continue
            await _begin(
                broker,
                settings,
                topics,
                policy,
                partition,
                records,
                ledger,
                with_snapshots=not chosen,
            )
            begun.append(partition)
    finally:
        await asyncio.to_thread(records.close)
    return begun


def _joins(
    broker: Broker, topics: Topics, policy: Policy, partition: int, ledger: Ledger | None
) -> bool:
    """Tell whether the state of a partition joins its logs; the log says why not."""
    try:
        restored = restore(broker, topics, policy, partition)
    except NotJoined as reason:
        log.warning("partition %d: %s", partition, reason)
        return False
    if restored.state is None and ledger is not None:
        counted = ledger(topics.events_id, partition)
        if counted is not None:
            log.warning(
                "partition %d: %s-%d is empty, but ClickHouse has counted events up to offset %d",
                partition,
                topics.journal,
                partition,
                counted.events_position,
            )
            return False
    log.info("partition %d joins its logs and stays as it is", partition)
    return True


async def _begin(
    broker: Broker,
    settings: MeterSettings,
    topics: Topics,
    policy: Policy,
    partition: int,
    records: RecordWriter,
    ledger: Ledger | None,
    *,
    with_snapshots: bool,
) -> None:
    limit = settings.journal_max_bytes
    new = await asyncio.to_thread(
        new_generation,
        broker,
        topics,
        policy,
        partition,
        ledger,
        limit,
        with_snapshots=with_snapshots,
    )
    consumer = broker.consumer()
    try:
        catalogue, _ = await asyncio.to_thread(
            read_catalogue, consumer, topics.snapshots, partition
        )
    finally:
        consumer.close()
    # 1. The snapshot: what came before cannot be read, and what does not fit the record stands
    #    only here. Until its record is there it joins nothing, and the command may be run again.
    await write_snapshot(records, topics.snapshots, partition, catalogue, await _stored(new), limit)
    # 2. The record: from here on the generation has begun, and whoever restores finds all of it.
    appended = await JournalWriter(records, topics.journal).append(
        partition, new.step.header.pack(), new.step.value
    )
    if appended.offset != new.next_offset:
        raise NotJoined(
            f"{topics.journal}-{partition}: another meter wrote meanwhile; stop all meters, then"
            " try again"
        )
    # 3. Last, what only takes room.
    await delete_old(records, topics.snapshots, partition, catalogue)
    log.warning(
        "partition %d begins generation %d at offset %d, from %s; lost: %s",
        partition,
        new.state.generation,
        new.state.events_position,
        new.positions_from,
        "; ".join(new.lost) or "nothing",
    )


async def _stored(new: NewGeneration) -> StoredSnapshot:
    snapshot = await asyncio.to_thread(take_snapshot, new.state)
    return StoredSnapshot(
        new.state.generation, new.next_offset, snapshot.manifest, snapshot.segments
    )
