"""A caller never waits longer than it was promised, whatever the disk does.

A disk that stalls cannot be provoked, so the log is doubled here by one that waits.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.publishing import absent_broker, make_settings, run_event
from tests.support.waiting import eventually

from meterstream.producers import (
    AsyncPublisher,
    DeliveryState,
    Publisher,
    PublisherClosed,
    PublishTimeout,
    QueueFull,
    SpoolFailed,
)
from meterstream.producers.encode import encode
from meterstream.producers.inbox import Inbox
from meterstream.producers.spool import SpoolLog
from meterstream.producers.ticket import Ticket


class StalledLog(SpoolLog):
    """A log whose disk does not answer until it is let go, and then may fail."""

    go: threading.Event
    writing: threading.Event
    failure: Exception | None = None

    def append(self, entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        self.writing.set()
        assert self.go.wait(60)
        if self.failure is not None:
            raise self.failure
        return super().append(entries)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[StalledLog]:
    """Return a log whose disk stalls."""
    log = StalledLog(tmp_path, segment_bytes=1 << 20)
    log.go = threading.Event()
    log.writing = threading.Event()
    yield log
    log.go.set()
    log.abandon()


def _inbox(log: StalledLog, failed: list[int] | None = None) -> Inbox:
    return Inbox(
        log,
        max_bytes=1000,
        refusal=lambda _size: None,
        may_pass=lambda refused: isinstance(refused, QueueFull),
        on_written=lambda: None,
        on_failed=lambda _error, count: (failed if failed is not None else []).append(count),
    )


def _ticket(number: int, size: int = 0) -> Ticket:
    encoded = encode(run_event(number, input="x" * size), "/tests")
    return Ticket(encoded, 0, lambda: None)


def _soon(seconds: float = 0.05) -> float:
    return time.monotonic() + seconds


def test_a_full_queue_refuses_at_the_deadline(log: StalledLog) -> None:
    """While the disk stalls, the queue takes its bytes and then refuses, naming the remedy."""
    inbox = _inbox(log)
    inbox.put(_ticket(0), _soon())
    assert log.writing.wait(30)
    inbox.put(_ticket(1, 400), _soon())
    with pytest.raises(QueueFull, match="raise queue_max_bytes"):
        inbox.put(_ticket(2, 400), _soon())
    assert isinstance(inbox.try_put(_ticket(2, 400)), QueueFull)
    log.go.set()
    inbox.put(_ticket(2, 400), _soon(60))
    assert inbox.close(60)
    assert log.next_seq == 3


def test_what_is_queued_is_written_before_the_inbox_closes(log: StalledLog) -> None:
    """Closing waits for the writer, and takes nothing more."""
    inbox = _inbox(log)
    tickets = [_ticket(number) for number in range(2)]
    for ticket in tickets:
        inbox.put(ticket, _soon())
    assert not inbox.close(0.01)
    with pytest.raises(PublisherClosed):
        inbox.put(_ticket(9), _soon(60))
    log.go.set()
    assert inbox.close(60)
    assert [ticket.state() for ticket in tickets] == [DeliveryState.SPOOLED] * 2


def test_a_failed_write_is_told_to_each_ticket(log: StalledLog) -> None:
    """All events of a group that could not be written are told so, watchers included."""
    failed: list[int] = []
    inbox = _inbox(log, failed)
    log.failure = SpoolFailed("disk full")
    ticket = _ticket(0)
    told: list[object] = []
    ticket.watch(told.append)
    inbox.put(ticket, _soon())
    log.go.set()
    assert inbox.close(60)
    ticket.watch(told.append)
    assert told == [log.failure, log.failure]
    assert ticket.state() is DeliveryState.NOT_ACCEPTED
    assert failed == [1]


def _stall(
    publisher: Publisher | AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> threading.Event:
    """Have the publisher's disk stall until the returned event is set."""
    go = threading.Event()
    log = publisher._engine.log
    append = log.append

    def stalled(entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        assert go.wait(60)
        return append(entries)

    monkeypatch.setattr(log, "append", stalled)
    return go


def test_an_event_that_is_late_on_disk_stays_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish gives up waiting at its limit and says so; the event is written when that works."""
    with absent_broker() as nowhere:
        publisher = Publisher(make_settings(tmp_path, nowhere, publish_timeout_ms=30))
        go = _stall(publisher, monkeypatch)
        for number in range(2):
            with pytest.raises(PublishTimeout, match="publishing it again is harmless"):
                publisher.publish(run_event(number))
        go.set()
        eventually(lambda: publisher._engine.log.next_seq == 2, 30, "both are in the spool")
        assert publisher.close() == 2


def test_a_stalled_disk_does_not_block_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While publish waits for the disk, the event loop goes on, and then publish gives up."""

    async def scenario(nowhere: str) -> int:
        publisher = AsyncPublisher(
            make_settings(tmp_path, nowhere, publish_timeout_ms=100, queue_max_bytes=1 << 20)
        )
        go = _stall(publisher, monkeypatch)
        turns = 0
        publishing = asyncio.create_task(publisher.publish(run_event(1)))
        while not publishing.done():
            turns += 1
            await asyncio.sleep(0)
        with pytest.raises(PublishTimeout, match="publishing it again"):
            await publishing
        big = [run_event(number, input="x" * 16_000) for number in range(2, 100)]
        refused = await asyncio.gather(*(publisher.publish(e) for e in big), return_exceptions=True)
        assert {type(error) for error in refused} <= {PublishTimeout, QueueFull}
        go.set()
        await publisher.close()
        return turns

    with absent_broker() as nowhere:
        # Where publish held the loop up, it would be over when the loop comes to its second turn.
        assert asyncio.run(scenario(nowhere)) > 2
