"""Dead letters of events that the broker's disk has not kept; doubles, for disks break seldom."""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError
from tests.support.craft import NOW
from tests.support.journal import Writer

from meterstream.schemas import deadletters as headers
from meterstream.schemas.verdicts import Verdict
from meterstream.streams.publisher.letters import RawReader, Reject, letter_of


class Message:
    """A record, or the client's error in its place."""

    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._offset, self._error = offset, error

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def value(self) -> bytes:
        return b"{}" if self._error is None else b"what the client says"

    def key(self) -> bytes:
        return b"key"

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW // 1000


class Log:
    """A consumer of a partition with some damaged batches: it does not get past these."""

    def __init__(self, end: int, damaged: Sequence[range]) -> None:
        self._end = end
        self._damaged = damaged
        self._position = end

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, self._end

    def assign(self, partitions: list[Any]) -> None:
        self._position = partitions[0].offset

    def unassign(self) -> None:
        self._position = self._end

    def poll(self, _: float) -> Message | None:
        for batch in self._damaged:
            if self._position in batch:
                return Message(batch.start, KafkaError(KafkaError._BAD_COMPRESSION))
        if self._position == self._end:
            return None
        self._position += 1
        return Message(self._position - 1)

    def consume(self, count: int, _: float) -> list[Message]:
        found = [self.poll(0) for _ in range(count)]
        return [message for message in found if message is not None]


@pytest.mark.parametrize(
    ("wanted", "whole", "broken"),
    [
        ([0, 3], [0, 3], []),
        ([0, 9], [0, 9], []),
        ([3, 5, 6, 9], [3, 9], [5, 6]),
        ([7], [], [7]),
    ],
    ids=["before", "around", "among", "only"],
)
def test_records_behind_damaged_ones_are_fetched(
    wanted: list[int], whole: list[int], broken: list[int]
) -> None:
    """A damaged batch costs the records in it that are wanted, and no other."""
    consumer: Any = Log(10, [range(4, 8)])
    found = RawReader(consumer).fetch("events", 0, wanted)
    assert sorted(found) == wanted
    assert [offset for offset in wanted if found[offset].error() is None] == whole
    assert [offset for offset in wanted if found[offset].error() is not None] == broken


def test_a_letter_of_a_damaged_record_says_so() -> None:
    """It has coordinates and reason, and none of the client's words for a value."""
    damaged: Any = Message(4, KafkaError(KafkaError._BAD_COMPRESSION))
    record: Any = Writer().genesis(NOW)
    reject = Reject("control", 4, Verdict.EMPTY, "it is empty")
    letter = letter_of(reject, record, "control", 0, damaged)
    told = dict(letter.headers)
    assert (told[headers.MISSING], told[headers.OFFSET]) == (b"damaged", b"4")
    assert (letter.key, letter.value, letter.is_lost) == (None, b"", True)
    assert headers.LOG_TIME not in told
