"""`meterstream meter --new-generation`: begins anew where a state does not join its logs."""

import asyncio
import logging

from .core import Policy, begin, take_snapshot
from .journal import JournalWriter, NotJoined, RecordWriter
from .journal.genesis import Ledger, new_generation
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
) -> list[int]:
    """Begin a new generation for each partition that does not join; return those partitions.

    Partitions whose state joins are left alone. Raises NotJoined, before anything is written for
    that partition, if nothing says where it has to go on.
    """
    begun = []
    records = RecordWriter(settings)
    try:
        for partition in range(partitions):
            try:
                await asyncio.to_thread(restore, broker, topics, policy, partition)
            except NotJoined as reason:
                log.warning("partition %d: %s", partition, reason)
                await _begin(broker, settings, topics, policy, partition, records, ledger)
                begun.append(partition)
            else:
                log.info("partition %d joins its logs and stays as it is", partition)
    finally:
        await asyncio.to_thread(records.close)
    return begun


async def _begin(
    broker: Broker,
    settings: MeterSettings,
    topics: Topics,
    policy: Policy,
    partition: int,
    records: RecordWriter,
    ledger: Ledger | None,
) -> None:
    limit = settings.journal_max_bytes
    new = await asyncio.to_thread(new_generation, broker, topics, policy, partition, ledger, limit)
    appended = await JournalWriter(records, topics.journal).append(
        partition, new.step.header.pack(), new.step.value
    )
    if appended.offset != new.next_offset:
        raise NotJoined(
            f"{topics.journal}-{partition}: another meter wrote meanwhile; stop all meters, then"
            " try again"
        )
    state = begin(policy, partition, appended.offset, appended.timestamp_us, new.step)
    if new.further_ids is not None:
        state.dedup.add(new.further_ids)
    # The snapshot makes the generation restorable: what came before cannot be read, and ids that
    # did not fit the record stand only here.
    snapshot = await asyncio.to_thread(take_snapshot, state)
    consumer = broker.consumer()
    try:
        catalogue, _ = await asyncio.to_thread(
            read_catalogue, consumer, topics.snapshots, partition
        )
    finally:
        consumer.close()
    stored = StoredSnapshot(state.generation, state.link.prev, snapshot.manifest, snapshot.segments)
    await write_snapshot(records, topics.snapshots, partition, catalogue, stored, limit)
    await delete_old(records, topics.snapshots, partition, catalogue)
    log.warning(
        "partition %d begins generation %d at offset %d, from %s",
        partition,
        state.generation,
        state.events_position,
        new.positions_from,
    )
