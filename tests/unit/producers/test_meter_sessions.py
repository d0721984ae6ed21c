"""A metered session says that it is up: at its start, regularly, and at its end."""

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.support.waiting import eventually

from meterstream.producers import AsyncMeter, Meter, QueueFull
from meterstream.producers.heartbeats import Heartbeats
from meterstream.producers.testing import AsyncInMemoryPublisher, InMemoryPublisher
from meterstream.schemas.session import SessionEnded, SessionHeartbeat, SessionStarted

ABOUT: dict[str, Any] = {
    "team_id": "team-1",
    "session_id": "s-1",
    "application": "notebook",
    "machine_size": "small",
    "release": "1.2",
    "launch_parameters": {"image": "base"},
}


def _heartbeat_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "meterstream-heartbeat"]


def test_a_session_is_started_kept_up_and_ended() -> None:
    """The start tells all; heartbeats and the end tell the machine's size of the moment."""
    publisher = InMemoryPublisher()
    meter = Meter(publisher, source="/tests", registry=CollectorRegistry())
    with meter.session(heartbeat_s=0.01, **ABOUT) as session:
        assert session.session_id == "s-1"
        eventually(lambda: len(publisher.of_type(SessionHeartbeat)) > 2, 30, "heartbeats")
        session.resized("large")
        eventually(
            lambda: publisher.of_type(SessionHeartbeat)[-1].data.machine_size == "large",
            30,
            "a heartbeat with the new size",
        )
    eventually(lambda: not _heartbeat_threads(), 30, "the thread ends with the last session")
    [started] = publisher.of_type(SessionStarted)
    [ended] = publisher.of_type(SessionEnded)
    beats = publisher.of_type(SessionHeartbeat)
    assert publisher.events[0] is started
    assert started.data.model_dump(exclude_none=True) == ABOUT
    assert (started.id, ended.id) == ("session-started:s-1", "session-ended:s-1")
    assert len({beat.id for beat in beats}) == len(beats)
    assert (beats[0].data.machine_size, ended.data.machine_size) == ("small", "large")
    assert ended.data.status == "completed"


def test_heartbeats_of_two_processes_are_not_taken_for_one() -> None:
    """The same session kept up from two places has heartbeats with ids of their own."""
    publisher = InMemoryPublisher()
    ids: list[str] = []
    for _ in range(2):
        meter = Meter(publisher, source="/tests", registry=CollectorRegistry())
        with meter.session(heartbeat_s=0.01, **ABOUT):
            publisher.clear()
            eventually(lambda: publisher.of_type(SessionHeartbeat), 30, "a heartbeat")
        ids += [beat.id for beat in publisher.of_type(SessionHeartbeat)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(OSError("gone"), "failed", "OSError"), (KeyboardInterrupt(), "cancelled", None)],
)
def test_the_end_tells_how(error: BaseException, status: str, code: str | None) -> None:
    """An exception fails the session and goes on to the caller."""
    publisher = InMemoryPublisher()
    meter = Meter(publisher, source="/tests", registry=CollectorRegistry())
    with pytest.raises(type(error)), meter.session(**ABOUT):
        raise error
    [ended] = publisher.of_type(SessionEnded)
    assert (ended.data.status, ended.data.error_code) == (status, code)


def test_a_refused_heartbeat_does_not_end_the_heartbeats() -> None:
    """While publishing fails the errors are told; when it works again, so do heartbeats."""
    publisher = InMemoryPublisher()
    told: list[Exception] = []
    meter = Meter(
        publisher,
        source="/tests",
        registry=CollectorRegistry(),
        on_error=told.append,
        raise_errors=True,
    )
    with meter.session(heartbeat_s=0.01, **ABOUT) as session:
        publisher.fail_with(QueueFull("no room"))
        eventually(lambda: len(told) > 1, 30, "refused heartbeats are told")
        publisher.fail_with(None)
        eventually(lambda: publisher.of_type(SessionHeartbeat), 30, "heartbeats go on")
        session.fail("own_code")
    assert publisher.of_type(SessionEnded)[0].data.error_code == "own_code"


def test_many_sessions_share_one_thread() -> None:
    """Each beats at its own interval, and removing one leaves the others."""
    heartbeats = Heartbeats()
    counts = [0, 0]

    def beat(index: int) -> None:
        counts[index] += 1

    keys = [heartbeats.add(partial(beat, i), 0.01 * (1 + 4 * i)) for i in range(2)]
    eventually(lambda: min(counts) > 2, 30, "both beat")
    assert len(_heartbeat_threads()) == 1
    heartbeats.remove(keys[0])
    seen = counts[1]
    eventually(lambda: counts[1] > seen + 2, 30, "the other goes on")
    heartbeats.remove(keys[1])
    heartbeats.remove(keys[1])
    eventually(lambda: not _heartbeat_threads(), 30, "the thread ends")
    key = heartbeats.add(lambda: beat(0), 0.01)
    seen = counts[0]
    eventually(lambda: counts[0] > seen, 30, "it starts again")
    heartbeats.remove(key)


def test_sessions_of_asyncio_are_metered_alike() -> None:
    """Start, heartbeats from a task, and an end that tells of the cancellation."""
    publisher = AsyncInMemoryPublisher()
    meter = AsyncMeter(publisher, source="/tests", registry=CollectorRegistry())

    async def keep_up() -> None:
        async with meter.session(heartbeat_s=0.01, **ABOUT):
            await asyncio.Event().wait()

    async def scenario() -> None:
        async with meter.session(**ABOUT):
            pass
        task = asyncio.create_task(keep_up())
        while len(publisher.of_type(SessionHeartbeat)) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(scenario())
    assert [event.data.status for event in publisher.of_type(SessionEnded)] == [
        "completed",
        "cancelled",
    ]
