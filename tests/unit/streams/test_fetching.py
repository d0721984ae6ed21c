"""What the consumer's thread takes from a fetch whose bytes are damaged."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.structs import TopicPartition

from meterstream.streams.transport import Batching, Records
from meterstream.streams.transport import thread as transport_thread
from meterstream.streams.transport.thread import BatchConsumerThread

TP = TopicPartition("events", 0)
DAMAGED = Records(4, 5, (), (), (), 0, damage="it fails its CRC")
WHOLE = Records(4, 6, (4, 5), (1, 1), (b"a", b"b"), 2)


def taken(monkeypatch: pytest.MonkeyPatch, *fetches: Records) -> list[Records | None]:
    """Return what a thread takes from one fetch after the other."""
    fetched = list(fetches)
    monkeypatch.setattr(transport_thread, "take", lambda *_: fetched.pop(0))
    thread: Any = BatchConsumerThread.__new__(BatchConsumerThread)
    thread._doubted = {}
    thread.app = SimpleNamespace(batching=Batching())
    found = []
    for _ in fetches:
        fetcher: Any = SimpleNamespace(
            _records={TP: FetchResult(TP, assignment=None, partition_records=None, backoff=0)},
            _notify=lambda _: None,
            _wait_consume_future=None,
        )
        found.append(thread._take(fetcher, TP))
        assert fetcher._records == {}, "it is fetched anew"
    return found


def test_what_the_network_damaged_is_fetched_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second fetch is whole, and nobody hears of the first."""
    assert taken(monkeypatch, DAMAGED, WHOLE) == [None, WHOLE]


def test_what_the_log_damaged_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are the same whenever they are fetched."""
    assert taken(monkeypatch, DAMAGED, DAMAGED) == [None, DAMAGED]
