"""From aiokafka's fetched bytes to columns, without an object for each record in between."""

from typing import Any, Final

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from .batch import Records

MILLISECOND_US: Final = 1000


def take(result: FetchResult, max_events: int, max_bytes: int) -> Records | None:
    """Take up to about `max_events` records or `max_bytes` of values from a fetch result.

    It stops at the border of a producer's batch, so it may go over by one of those, and before one
    that is damaged: the next fetch begins with that, and tells of it. None if the result is stale
    (the partition was sought, paused or lost since) or holds nothing more. Positions move as in
    `FetchResult.getall`; the result has no more once it is exhausted.
    """
    if not result.has_more() or not result.check_assignment(result._topic_partition):
        return None
    source: PartitionRecords = result._partition_records
    # Its own iterator is not used, and would keep the fetched bytes alive in a cycle.
    source._records_iterator = None
    start = source.next_fetch_offset
    offsets: list[int] = []
    times: list[int] = []
    values: list[bytes | None] = []
    size = 0
    batches = source._records
    damage = ""
    more = batches.has_next()
    while more and len(offsets) < max_events and size < max_bytes:
        try:
            records = _visible_records(source, batches.next_batch())
        except CorruptRecordException as error:
            damage, more = str(error.args[0] if error.args else error), False
            break
        if records:
            offsets += [record.offset for record in records]
            times += [record.timestamp * MILLISECOND_US for record in records]
            found = [record.value for record in records]
            size += sum(map(len, filter(None, found)))
            values += found
        more = batches.has_next()
    result._update_position()
    end = source.next_fetch_offset
    if not more:
        result._partition_records = None
    if end > start:
        return Records(start, end, offsets, times, values, size)
    return Records(start, start + 1, (), (), (), 0, damage=damage) if damage else None


def _visible_records(source: PartitionRecords, batch: Any) -> list[Any]:
    """Return the records of a producer's batch that a reader may see, and move past the batch."""
    if source._check_crcs and not batch.validate_crc():
        raise CorruptRecordException(
            f"the batch with the offsets {batch.base_offset} to {batch.next_offset - 1} fails its"
            " CRC: the broker's disk has damaged it"
        )
    visible = not batch.is_control_batch
    if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and source._contains_abort_marker(batch):
            source._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in source._aborted_producers:
            visible = False
    records = list(batch) if visible else []
    if records and records[0].offset < source.next_fetch_offset:
        position = source.next_fetch_offset
        records = [record for record in records if record.offset >= position]
    source.next_fetch_offset = batch.next_offset
    return records
