"""Fetched bytes become columns: exact borders, gaps for what readers may not see."""

from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from meterstream.streams.transport.unpack import take

TP = TopicPartition("events", 0)


def batch(
    first: int, values: list[bytes | None], *, producer: int = -1, txn: bool = False
) -> bytes:
    """Return a producer's batch whose first offset is `first`."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(txn),
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1_000_000,
    )
    for at, value in enumerate(values):
        builder.append(at, 1_000 + first + at, None, value, [])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")  # not covered by the CRC
    return bytes(data)


class Assignment:
    """Stands for aiokafka's assignment of one partition."""

    def __init__(self, position: int) -> None:
        self.active = True
        self.state = SimpleNamespace(position=position, paused=False, consumed_to=self._move)

    def _move(self, position: int) -> None:
        self.state.position = position

    def state_value(self, tp: Any) -> Any:
        return self.state


def fetched(
    data: bytes, position: int, aborted: list[tuple[int, int]] | None = None
) -> tuple[FetchResult, Assignment]:
    """Return a fetch of `data` by a reader that stands at `position`."""
    assignment = Assignment(position)
    records = PartitionRecords(
        TP, MemoryRecords(data), aborted, position, None, None, True, READ_COMMITTED
    )
    result = FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)
    return result, assignment


def test_whole_fetch() -> None:
    """A fetch becomes columns that speak of every offset from the position to its end."""
    result, assignment = fetched(batch(5, [b"a", None]) + batch(10, [b"ccc"]), 3)
    records = take(result, 100, 10_000)
    assert records is not None
    assert (records.start, records.end) == (3, 11)
    assert list(records.offsets) == [5, 6, 10]
    assert list(records.values) == [b"a", None, b"ccc"]
    assert list(records.log_times_us) == [1_005_000, 1_006_000, 1_010_000]
    assert records.value_bytes == 4
    assert assignment.state.position == 11
    assert not result.has_more()


def test_limits() -> None:
    """A batch ends at the border of the producer's batch that reaches a limit; the rest stays."""
    data = b"".join(batch(at, [b"x" * 10, b"y" * 10]) for at in range(0, 10, 2))
    result, assignment = fetched(data, 0)
    first, second = take(result, 3, 10_000), take(result, 100, 30)
    assert first is not None
    assert second is not None
    assert (first.start, first.end, second.start, second.end) == (0, 4, 4, 8)
    assert result.has_more()
    assert assignment.state.position == 8


def test_begins_in_the_middle_of_a_producers_batch() -> None:
    """Records below the position are left out."""
    result, _ = fetched(batch(0, [b"a", b"b", b"c"]), 2)
    records = take(result, 100, 10_000)
    assert records is not None
    assert (records.start, records.end, list(records.offsets)) == (2, 3, [2])


def test_aborted_transactions() -> None:
    """Records of an aborted transaction are gaps, and those of another producer are not."""
    data = (
        batch(0, [b"gone", b"gone"], producer=7, txn=True)
        + batch(2, [b"kept"], producer=8, txn=True)
        + batch(3, [b"plain"])
    )
    result, _ = fetched(data, 0, [(7, 0)])
    records = take(result, 100, 10_000)
    assert records is not None
    assert (records.start, records.end, list(records.offsets)) == (0, 4, [2, 3])


def test_nothing_but_aborted_records() -> None:
    """A fetch without any visible record still speaks of its offsets."""
    result, assignment = fetched(batch(0, [b"gone"], producer=7, txn=True), 0, [(7, 0)])
    records = take(result, 100, 10_000)
    assert records is not None
    assert (records.start, records.end, len(records)) == (0, 1, 0)
    assert assignment.state.position == 1


def test_stale_fetches() -> None:
    """A fetch from before a seek, a pause or a rebalance gives nothing."""
    for change in ("position", "paused", "active"):
        result, assignment = fetched(batch(0, [b"a"]), 0)
        if change == "position":
            assignment.state.position = 9
        elif change == "paused":
            assignment.state.paused = True
        else:
            assignment.active = False
        assert take(result, 100, 10_000) is None
        assert not result.has_more()


def test_damaged_bytes() -> None:
    """Bytes that fail their CRC are refused by name and offset, never counted."""
    damaged = bytearray(batch(4, [b"abcdef", b"g"]))
    damaged[-2] ^= 1
    data = batch(2, [b"a", b"b"]) + bytes(damaged) + batch(6, [b"behind it"])
    result, assignment = fetched(data, 2)
    whole = take(result, 100, 10_000)
    assert whole is not None
    assert (whole.start, whole.end, whole.damage) == (2, 4, "")
    assert not result.has_more(), "the next fetch begins with the damaged batch"
    result, _ = fetched(bytes(damaged) + batch(6, [b"behind it"]), assignment.state.position)
    found = take(result, 100, 10_000)
    assert found is not None
    assert (found.start, len(found), result.has_more()) == (4, 0, False)
    assert found.damage.startswith("the batch with the offsets 4 to 5 fails its CRC")
