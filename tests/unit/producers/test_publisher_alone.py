"""A publisher that finds no broker accepts, keeps, limits, and says what is wrong."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.support.publishing import absent_broker, make_settings, run_event
from tests.support.waiting import eventually

from meterstream.producers import (
    AsyncPublisher,
    BrokerUnreachable,
    DeliveryState,
    DeliveryTimeout,
    Durability,
    InvalidEvent,
    NotAccepted,
    Publisher,
    PublisherClosed,
    SpoolFull,
    SpoolTooOld,
    SpoolUnusable,
)
from meterstream.producers.problems import Problems
from meterstream.producers.spool.record import MAGIC, unpack


def _spooled(spool_dir: Path) -> list[str]:
    """Return the ids of the events in all segments, in order."""
    found = []
    for path in sorted(spool_dir.glob("*/*.segment")):
        records, _ = unpack(path.read_bytes(), len(MAGIC))
        found += [json.loads(record.value)["id"] for record in records]
    return found


@pytest.mark.parametrize("durability", ["queued", "written", "synced"])
def test_what_publish_returned_for_is_on_disk(tmp_path: Path, durability: Durability) -> None:
    """Once accepted, an event stands in the spool, in order, and closing leaves it there."""
    with absent_broker() as nowhere:
        publisher = Publisher(make_settings(tmp_path, nowhere, durability=durability))
        for number in range(20):
            delivery = publisher.publish(run_event(number))
            if durability != "queued":
                assert _spooled(tmp_path)[-1] == delivery.event_id == f"completed:run-{number}"
                assert delivery.state is DeliveryState.SPOOLED
        assert publisher.remaining == 20
        assert publisher.close() == 20
        assert publisher.close() == 0
    assert _spooled(tmp_path) == [f"completed:run-{number}" for number in range(20)]


def test_a_restarted_service_keeps_the_order(tmp_path: Path) -> None:
    """The next publisher of the directory takes the events over, and puts its own behind them."""
    with absent_broker() as nowhere:
        for number in range(3):
            with Publisher(make_settings(tmp_path, nowhere)) as publisher:
                publisher.publish(run_event(number))
                assert publisher.remaining == number + 1
    assert _spooled(tmp_path) == [f"completed:run-{number}" for number in range(3)]


def test_waiting_for_a_broker_that_is_away_ends_in_time(tmp_path: Path) -> None:
    """Receipt, flush and check each say that there is no answer, and what becomes of the events."""
    with absent_broker() as nowhere, Publisher(make_settings(tmp_path, nowhere)) as publisher:
        delivery = publisher.publish(run_event(1))
        with pytest.raises(DeliveryTimeout, match="will be sent as soon as"):
            delivery.wait(0.01)
        with pytest.raises(DeliveryTimeout, match="1 events are not acknowledged after"):
            publisher.flush(0.01)
        with pytest.raises(BrokerUnreachable, match="accepted events wait in the spool"):
            publisher.check(0.2)
        assert repr(delivery) == "<Delivery of completed:run-1: spooled>"
        assert delivery.team_id == "team-1"


def test_an_unreachable_broker_is_reported_once_it_matters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error callback and one line of the log tell that events wait."""
    told: list[Exception] = []
    with absent_broker() as nowhere:
        publisher = Publisher(make_settings(tmp_path, nowhere), on_error=told.append)
        publisher.publish(run_event(1))
        eventually(lambda: told, 30, "the callback is told")
        publisher.close()
    assert isinstance(told[0], BrokerUnreachable)
    lines = [record for record in caplog.records if "BrokerUnreachable" in record.message]
    assert len(lines) == 1
    assert any("the next publisher with spool_dir" in record.message for record in caplog.records)


def test_problems_are_logged_once_a_kind_and_a_faulty_callback_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The hundredth error of a kind is counted and passed on, but not logged."""
    counted: list[str] = []

    def callback(_error: Exception) -> None:
        raise RuntimeError("of the service's own")

    problems = Problems("test", counted.append, callback)
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            problems.report(ValueError(number))
    assert counted == ["ValueError"] * 100
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "test: ValueError: 0"
    ]


def test_a_full_spool_refuses_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the size limit publish raises with the numbers, the reason and the limit's name."""
    with absent_broker() as nowhere:
        # Time for the slowest disk: nothing waits that long once it is known why there is no room.
        values: dict[str, Any] = {"spool_max_bytes": 1 << 20, "publish_timeout_ms": 60_000}
        with Publisher(make_settings(tmp_path, nowhere, **values)) as publisher:
            publisher.publish(run_event(0))
            eventually(lambda: "BrokerUnreachable" in caplog.text, 60, "the problem is known")

            def publish_until_refused() -> None:
                for number in range(1, 1000):
                    publisher.publish(run_event(number, input="x" * 16_000))

            with pytest.raises(SpoolFull, match="that spool_max_bytes allows") as caught:
                publish_until_refused()
            assert f"{publisher.remaining} events wait" in str(caught.value)
            assert publisher.remaining > 50
            used = sum(path.stat().st_size for path in tmp_path.rglob("*.segment"))
            assert 0.9 * (1 << 20) < used <= 1 << 20


def test_a_spool_that_waits_too_long_refuses(tmp_path: Path) -> None:
    """Before events grow too old to be counted, publish says that the broker must be mended."""
    with (
        absent_broker() as nowhere,
        Publisher(make_settings(tmp_path, nowhere, spool_max_age_s=1)) as publisher,
    ):
        publisher.publish(run_event(0))

        def refused() -> bool:
            try:
                publisher.publish(run_event(1))
            except SpoolTooOld as error:
                return "spool_max_age_s allows 1;" in str(error)
            return False

        eventually(refused, 30, "publish refuses")


def test_a_faulty_event_is_not_accepted(tmp_path: Path) -> None:
    """Nothing of it reaches the spool, and it is counted as failed."""
    registry = CollectorRegistry()
    with (
        absent_broker() as nowhere,
        Publisher(make_settings(tmp_path, nowhere), registry=registry) as publisher,
    ):
        with pytest.raises(InvalidEvent):
            publisher.publish(run_event(-1))
        assert publisher.remaining == 0
    assert _sample(registry, "failed_total", reason="InvalidEvent") == 1


def test_a_closed_publisher_refuses(tmp_path: Path) -> None:
    """After close, publish, flush and check say so."""
    with absent_broker() as nowhere:
        publisher = Publisher(make_settings(tmp_path, nowhere))
        publisher.close()
        for use in (
            lambda: publisher.publish(run_event(1)),
            lambda: publisher.flush(1),
            publisher.check,
        ):
            with pytest.raises(PublisherClosed):
                use()


def test_threads_publish_side_by_side(tmp_path: Path) -> None:
    """Each thread's events stand in the spool in its own order, and none is missing."""
    with absent_broker() as nowhere, Publisher(make_settings(tmp_path, nowhere)) as publisher:

        def publish(thread: int) -> None:
            for number in range(100):
                publisher.publish(run_event(1000 * thread + number))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        numbers = [int(known.removeprefix("completed:run-")) for known in _spooled(tmp_path)]
        for thread_number in range(8):
            own = [number % 1000 for number in numbers if number // 1000 == thread_number]
            assert own == list(range(100))


def test_metrics_follow_an_event_and_name_nobody(tmp_path: Path) -> None:
    """Counters and gauges show what waits; no label holds a team or user."""
    registry = CollectorRegistry()
    with absent_broker() as nowhere:
        publisher = Publisher(make_settings(tmp_path, nowhere), registry=registry)
        second = Publisher(make_settings(tmp_path, nowhere, name="second"), registry=registry)
        for number in range(3):
            publisher.publish(run_event(number, "a-team", user_id="a-user"))
        kind = "meterstream.run.completed.v1"
        assert _sample(registry, "published_total", type=kind) == 3
        assert _sample(registry, "spooled_events") == 3
        assert (_sample(registry, "spooled_bytes") or 0) > 300
        assert _sample(registry, "queue_depth") == 0
        assert _sample(registry, "spooled_events", publisher="second") == 0
        eventually(lambda: _sample(registry, "spool_age_seconds"), 30, "the age grows")
        publisher.close()
        second.close()
    assert _sample(registry, "spooled_events") == 3
    labels = {v for m in registry.collect() for s in m.samples for v in s.labels.values()}
    assert not labels & {"a-team", "a-user"}


def _sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    labels = {"publisher": "meterstream"} | labels
    return registry.get_sample_value(f"meterstream_producer_{name}", labels)


def test_the_asyncio_publisher_keeps_the_same_promises(tmp_path: Path) -> None:
    """Accepted is on disk; receipts, flush and check end in time; errors are the same."""

    async def scenario(nowhere: str) -> None:
        async with AsyncPublisher(make_settings(tmp_path, nowhere)) as publisher:
            deliveries = await asyncio.gather(*(publisher.publish(run_event(n)) for n in range(50)))
            assert {delivery.state for delivery in deliveries} == {DeliveryState.SPOOLED}
            assert len(_spooled(tmp_path)) == publisher.remaining == 50
            with pytest.raises(DeliveryTimeout):
                await deliveries[0].wait(0.01)
            with pytest.raises(DeliveryTimeout):
                await publisher.flush(0.01)
            with pytest.raises(BrokerUnreachable):
                await publisher.check(0.2)
            with pytest.raises(InvalidEvent):
                await publisher.publish(run_event(-1))
        with pytest.raises(PublisherClosed):
            await publisher.publish(run_event(1))

    with absent_broker() as nowhere:
        asyncio.run(scenario(nowhere))


def test_a_queued_event_that_the_disk_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where publish did not wait for the disk, the receipt, the callback and the metric tell."""
    registry = CollectorRegistry()
    told: list[Exception] = []
    with absent_broker() as nowhere:
        settings = make_settings(tmp_path / "spool", nowhere, durability="queued")
        publisher = Publisher(settings, registry=registry, on_error=told.append)
        directory = publisher._engine.log.directory
        directory.rename(tmp_path / "away")
        delivery = publisher.publish(run_event(1))
        with pytest.raises(NotAccepted, match="no event is accepted until it can"):
            delivery.wait(30)
        assert delivery.state is DeliveryState.NOT_ACCEPTED
        eventually(lambda: told, 30, "the callback is told")
        assert _sample(registry, "failed_total", reason="SpoolFailed") == 1
        (tmp_path / "away").rename(directory)
        publisher.close()


def test_damage_in_the_spool_is_told_and_counted(tmp_path: Path) -> None:
    """Events that a broken disk took are reported with their number; the others are kept."""
    registry = CollectorRegistry()
    told: list[Exception] = []
    with absent_broker() as nowhere:
        settings = make_settings(tmp_path, nowhere, spool_max_bytes=1 << 20)
        with Publisher(settings) as publisher:
            for number in range(200):
                publisher.publish(run_event(number, input="x" * 1000))
        damaged = sorted(tmp_path.rglob("*.segment"))[1]
        data = bytearray(damaged.read_bytes())
        data[100] ^= 1
        damaged.write_bytes(data)
        with Publisher(settings, registry=registry, on_error=told.append) as publisher:
            eventually(
                lambda: any(isinstance(error, SpoolUnusable) for error in told), 30, "it is told"
            )
            lost = _sample(registry, "failed_total", reason="SpoolUnusable")
            assert lost is not None
            assert lost > 10
            assert publisher.remaining == 200 - lost


_FORK = """
import os, sys
from pathlib import Path
from meterstream.producers import Publisher, PublisherForked
from tests.support.publishing import make_settings, run_event
publisher = Publisher(make_settings(Path(sys.argv[1]), sys.argv[2]))
publisher.publish(run_event(1))
child = os.fork()
if child == 0:
    for use in (lambda: publisher.publish(run_event(2)), lambda: publisher.flush(1)):
        try:
            use()
        except PublisherForked as error:
            print("in post_fork" in str(error), flush=True)
    own = Publisher(make_settings(Path(sys.argv[1]), sys.argv[2], name="child"))
    own.publish(run_event(3))
    print(own.remaining, own.close(), publisher.close(), flush=True)
    del publisher
    sys.exit(0)
print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
publisher.publish(run_event(4))
print(publisher.remaining, flush=True)
"""


def test_a_fork_is_told_and_does_no_harm(tmp_path: Path) -> None:
    """In the child the publisher says what to do; a new one works; the parent's goes on."""
    with absent_broker() as nowhere:
        script = [sys.executable, "-c", _FORK, str(tmp_path), nowhere]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["True", "True", "1 1 0", "child ended with 0", "2"]
    assert sorted(_spooled(tmp_path)) == [f"completed:run-{number}" for number in (1, 3, 4)]


_NEVER_CLOSED = """
import sys
from pathlib import Path
from meterstream.producers import Publisher
from tests.support.publishing import make_settings, run_event
publisher = Publisher(make_settings(Path(sys.argv[1]), sys.argv[2], durability="queued"))
for number in range(1000):
    publisher.publish(run_event(number))
"""


def test_a_publisher_that_nobody_closed_is_closed_at_exit(tmp_path: Path) -> None:
    """A script that just ends leaves all of its events in the spool, and ends."""
    with absent_broker() as nowhere:
        script = [sys.executable, "-c", _NEVER_CLOSED, str(tmp_path), nowhere]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    assert "1000 events that are not acknowledged" in done.stderr
    assert len(_spooled(tmp_path)) == 1000


_CLOSED_BY_A_SIGNAL = """
import signal, sys
from pathlib import Path
from meterstream.producers import Publisher
from tests.support.publishing import make_settings, run_event
publisher = Publisher(make_settings(Path(sys.argv[1]), sys.argv[2]))
def close(*_):
    publisher.close()
    sys.exit(7)
signal.signal(signal.SIGTERM, close)
for number in range(10_000_000):
    publisher.publish(run_event(number))
    print(number, flush=True)
"""


def test_a_signal_handler_may_close_the_publisher(tmp_path: Path) -> None:
    """Closing from a handler, wherever the main thread is just then, ends and loses nothing."""
    with absent_broker() as nowhere:
        for life in range(3):
            spool = tmp_path / str(life)
            script = [sys.executable, "-c", _CLOSED_BY_A_SIGNAL, str(spool), nowhere]
            with subprocess.Popen(script, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                for _ in range(50 + 37 * life):
                    process.stdout.readline()
                process.terminate()
                rest = process.stdout.read()
                assert process.wait(60) == 7
            accepted = 50 + 37 * life + rest.count(b"\n")
            assert len(_spooled(spool)) >= accepted
