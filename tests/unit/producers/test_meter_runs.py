"""A metered block is timed, counted and published, and metering never gets in its way."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from meterstream.producers import AsyncMeter, Meter, QueueFull, RecordingError, Run
from meterstream.producers.testing import AsyncInMemoryPublisher, InMemoryPublisher
from meterstream.schemas.registry import parse_event
from meterstream.schemas.run import RunCompleted, RunStarted

ABOUT: dict[str, Any] = {"team_id": "team-1", "user_id": "user-1", "model": "m"}


def _meter(publisher: InMemoryPublisher, **options: Any) -> Meter:
    return Meter(publisher, source="/tests", registry=CollectorRegistry(), **options)


def _one_run(use: Callable[[Run], object], **options: Any) -> RunCompleted:
    """Return the event of a run in which `use(run)` is called."""
    publisher = InMemoryPublisher()
    _run_in(publisher, use, **options)
    [event] = publisher.of_type(RunCompleted)
    return event


def _run_in(publisher: InMemoryPublisher, use: Callable[[Run], object], **options: Any) -> None:
    with _meter(publisher, **options).run(**ABOUT) as run:
        use(run)


def test_a_run_carries_all_that_was_recorded() -> None:
    """Tokens and quantities add up over calls; tags, credits, bytes and output are there."""
    publisher = InMemoryPublisher()
    about: dict[str, Any] = {
        "operation": "api_call",
        "run_id": "r-1",
        "caller": "ui",
        "input": "in",
    }
    with _meter(publisher).run(**ABOUT, **about) as run:
        assert run.run_id == "r-1"
        run.tokens(input=100, output=20, cached=40, reasoning=5)
        run.tokens(output=3, cached=None)
        run.tag(env="prod", region="eu")
        run.tag(env="test")
        run.quantity(images=2)
        run.quantity(images=3, pages=-1)
        run.traffic(request_bytes=10, response_bytes=2_000)
        run.credits(micro=1_500_000)
        run.output("out")
    [event] = publisher.events
    assert isinstance(event, RunCompleted)
    assert (event.id, event.source) == ("completed:r-1", "/tests")
    data = event.data.model_dump(exclude_none=True)
    for timed in ("started_at", "ended_at", "latency_us"):
        del data[timed]
    assert data == {
        **ABOUT,
        **about,
        "status": "completed",
        "input_tokens": 100,
        "output_tokens": 23,
        "cached_tokens": 40,
        "reasoning_tokens": 5,
        "tags": {"env": "test", "region": "eu"},
        "quantities": {"images": 5, "pages": -1},
        "request_bytes": 10,
        "response_bytes": 2_000,
        "credits_micro": 1_500_000,
        "output": "out",
    }


def test_threads_may_record_into_one_run() -> None:
    """Tokens that parallel calls add are all counted."""

    def use(run: Run) -> None:
        def add() -> None:
            for _ in range(2_000):
                run.tokens(input=1, output=2)
                run.quantity(calls=1)

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    data = _one_run(use).data
    assert (data.input_tokens, data.output_tokens) == (8_000, 16_000)
    assert data.quantities == {"calls": 8_000}


def test_latency_is_monotonic_and_times_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency and first token follow the monotonic clock; the end is the start plus the latency."""
    now_ns = 5_000_000_000
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns)
    before = datetime.now(UTC)

    def use(run: Run) -> None:
        nonlocal now_ns
        now_ns += 250_000_999
        run.first_token()
        now_ns += 1_000_000_000
        run.first_token()

    event = _one_run(use)
    assert event.data.time_to_first_token_us == 250_000
    assert event.data.latency_us == 1_250_000
    assert before <= event.data.started_at <= datetime.now(UTC)
    assert event.data.ended_at == event.time
    assert event.time - event.data.started_at == timedelta(microseconds=1_250_000)


def test_publishing_the_start_is_not_part_of_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run.started is sent first, if asked for, and the clock of the run begins after it."""
    now_ns = 0
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns)

    class Slow(InMemoryPublisher):
        def publish(self, event: Any) -> None:
            nonlocal now_ns
            now_ns += 10**9
            super().publish(event)

    publisher = Slow()
    with _meter(publisher, emit_started=True).run(**ABOUT, run_id="r") as run:
        assert [type(event) for event in publisher.events] == [RunStarted]
        run.tokens(input=1)
    [started] = publisher.of_type(RunStarted)
    [completed] = publisher.of_type(RunCompleted)
    assert (started.id, completed.id) == ("started:r", "completed:r")
    assert started.time == started.data.started_at == completed.data.started_at
    assert completed.data.latency_us == 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("with somebody's name"), "failed", "ValueError"),
        (KeyboardInterrupt(), "cancelled", None),
        (SystemExit(1), "cancelled", None),
        (asyncio.CancelledError(), "cancelled", None),
        (concurrent.futures.CancelledError(), "cancelled", None),
        (GeneratorExit(), "cancelled", None),
    ],
)
def test_an_exception_is_recorded_and_goes_on(
    error: BaseException, status: str, code: str | None
) -> None:
    """The run fails with the exception's class, or is cancelled; the caller gets the exception."""
    publisher = InMemoryPublisher()

    def use(run: Run) -> None:
        run.tokens(input=7)
        raise error

    with pytest.raises(type(error)) as caught:
        _run_in(publisher, use)
    assert caught.value is error
    [event] = publisher.of_type(RunCompleted)
    assert (event.data.status, event.data.error_code) == (status, code)
    assert event.data.error_message is None
    assert event.data.input_tokens == 7


def test_a_service_may_name_its_own_failure() -> None:
    """A code of one's own wins over the exception's class; a run may be cancelled by hand."""
    event = _one_run(lambda run: run.fail("rate_limited", "try later"))
    assert (event.data.status, event.data.error_code) == ("failed", "rate_limited")
    assert event.data.error_message == "try later"
    assert _one_run(Run.cancel).data.status == "cancelled"
    publisher = InMemoryPublisher()

    def use(run: Run) -> None:
        run.fail("own")
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        _run_in(publisher, use)
    assert publisher.of_type(RunCompleted)[0].data.error_code == "own"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.tokens(input=-1),
        lambda run: run.tokens(input=1.5),
        lambda run: run.tokens(output="many"),
        lambda run: run.tokens(output=True),
        lambda run: run.tokens(output=10**9 + 1),
        lambda run: run.tokens(cached=9),
        lambda run: run.tokens(reasoning=9),
        lambda run: run.traffic(request_bytes=-1),
        lambda run: run.tag(**{f"t{number}": "x" for number in range(11)}),
        lambda run: run.tag(a="x" * 257),
        lambda run: run.tag(a=1),
        lambda run: run.tag(a="line\nbreak"),
        lambda run: run.tag(**{"": "x"}),
        lambda run: run.quantity(**{f"q{number}": 1 for number in range(6)}),
        lambda run: run.quantity(a=0.5),
        lambda run: run.quantity(a=2**53),
        lambda run: run.credits(micro=-1),
        lambda run: run.credits(micro=None),
        lambda run: run.output(b"bytes"),
    ],
)
def test_a_value_that_cannot_be_recorded_is_left_out_and_told(
    spoil: Callable[[Run], object],
) -> None:
    """The run is counted without it, nothing is raised, and the callback hears what was wrong."""
    told: list[Exception] = []
    event = _one_run(spoil, on_error=told.append)
    [error] = told
    assert isinstance(error, RecordingError)
    assert "left out" in str(error)
    assert event.data.status == "completed"
    with pytest.raises(RecordingError):
        _one_run(spoil, raise_errors=True)


def test_long_and_broken_texts_never_cost_the_run() -> None:
    """Input, output and messages are cut to what an event holds, half surrogates replaced."""

    def use(run: Run) -> None:
        run.output("\x01" * 100_000)
        run.fail("c" * 100, "\ud800" + "é" * 100_000)

    publisher = InMemoryPublisher()
    with _meter(publisher).run(**ABOUT, input="\U0001f600" * 100_000) as run:
        use(run)
    [event] = publisher.of_type(RunCompleted)
    assert len(event.data.output or "") > 5_000
    assert len(event.data.input or "") > 5_000
    assert (event.data.error_message or "").startswith("?éé")
    assert event.data.error_code == "c" * 64
    [(_, value)] = publisher.messages
    assert parse_event(value) == event


def test_a_publisher_that_refuses_does_not_break_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The block's result and exceptions are the service's own; the error is counted and told."""
    publisher = InMemoryPublisher()
    publisher.fail_with(QueueFull("no room"))
    registry = CollectorRegistry()
    told: list[Exception] = []
    meter = Meter(publisher, source="/tests", registry=registry, on_error=told.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with meter.run(**ABOUT):
                pass
        with pytest.raises(ZeroDivisionError), meter.run(**ABOUT):
            raise ZeroDivisionError
    assert [type(error) for error in told] == [QueueFull] * 4
    assert (
        registry.get_sample_value(
            "meterstream_producer_metering_errors_total", {"kind": "QueueFull"}
        )
        == 4
    )
    assert len(caplog.records) == 1
    publisher.fail_with(None)
    with meter.run(**ABOUT):
        pass
    assert len(publisher.events) == 1


def test_an_invalid_run_does_not_break_the_request() -> None:
    """What the contract refuses, such as a team that is no text, is told and not raised."""
    told: list[Exception] = []
    publisher = InMemoryPublisher()
    with _meter(publisher, on_error=told.append).run(team_id=None) as run:  # type: ignore[arg-type]
        run.tokens(input=1)
    assert publisher.events == []
    assert "data.team_id" in str(told[0])


def test_errors_are_raised_where_that_is_asked_for_but_never_over_the_blocks_own() -> None:
    """With raise_errors a test sees them; an exception of the block still comes first."""
    publisher = InMemoryPublisher()
    publisher.fail_with(QueueFull("no room"))
    meter = _meter(publisher, raise_errors=True)
    with pytest.raises(QueueFull), meter.run(**ABOUT):
        pass
    with pytest.raises(ZeroDivisionError), meter.run(**ABOUT):
        raise ZeroDivisionError


def test_runs_of_asyncio_are_metered_alike() -> None:
    """Results, failures and cancellations of tasks are recorded, and cancelling still works."""
    publisher = AsyncInMemoryPublisher()
    meter = AsyncMeter(publisher, source="/tests", emit_started=True, registry=CollectorRegistry())

    async def work(kind: str, begun: asyncio.Event) -> None:
        async with meter.run(**ABOUT, run_id=kind) as run:
            run.tokens(input=3)
            begun.set()
            if kind == "fails":
                raise LookupError
            if kind == "hangs":
                await asyncio.Event().wait()

    async def scenario() -> None:
        for kind in ("works", "fails", "hangs"):
            begun = asyncio.Event()
            task = asyncio.create_task(work(kind, begun))
            await begun.wait()
            if kind == "hangs":
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() == (kind == "hangs")
            if kind == "fails":
                assert isinstance(task.exception(), LookupError)

    asyncio.run(scenario())
    assert len(publisher.of_type(RunStarted)) == 3
    assert [
        (e.data.run_id, e.data.status, e.data.error_code) for e in publisher.of_type(RunCompleted)
    ] == [
        ("works", "completed", None),
        ("fails", "failed", "LookupError"),
        ("hangs", "cancelled", None),
    ]


def test_a_refusal_does_not_break_an_asyncio_request() -> None:
    """As with threads: told, not raised."""
    publisher = AsyncInMemoryPublisher()
    publisher.fail_with(QueueFull("no room"))
    told: list[Exception] = []
    meter = AsyncMeter(
        publisher, source="/tests", on_error=told.append, registry=CollectorRegistry()
    )

    async def scenario() -> None:
        async with meter.run(**ABOUT):
            pass

    asyncio.run(scenario())
    assert [type(error) for error in told] == [QueueFull]
