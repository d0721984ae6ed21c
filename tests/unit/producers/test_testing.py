"""The test publishers that are shipped behave as the real ones where a service can tell."""

import asyncio

import pytest
from tests.support.publishing import run_event

from meterstream.producers import (
    AsyncEventPublisher,
    DeliveryTimeout,
    EventPublisher,
    InvalidEvent,
    PublisherClosed,
    SpoolFull,
)
from meterstream.producers.testing import AsyncInMemoryPublisher, InMemoryPublisher
from meterstream.schemas.run import RunCompleted


def test_events_are_validated_kept_and_handed_out() -> None:
    """Accepted events are models in order; faulty ones are refused as in production."""
    publisher = InMemoryPublisher(source="/tests")
    as_interface: EventPublisher = publisher
    as_interface.publish(run_event(1))
    as_interface.publish(publisher.events[0])
    with pytest.raises(InvalidEvent):
        as_interface.publish(run_event(-1))
    assert [event.id for event in publisher.of_type(RunCompleted)] == ["completed:run-1"] * 2
    assert publisher.messages[0][0] == b"team-1"
    publisher.clear()
    assert publisher.events == []


def test_failures_can_be_rehearsed() -> None:
    """A service's handling of refusals and timeouts can be tested without a broker."""
    with InMemoryPublisher(source="/tests") as publisher:
        publisher.fail_with(SpoolFull("full"))
        publisher.fail_flush_with(DeliveryTimeout("late"))
        with pytest.raises(SpoolFull):
            publisher.publish(run_event(1))
        with pytest.raises(DeliveryTimeout):
            publisher.flush(1)
        publisher.fail_with(None)
        publisher.fail_flush_with(None)
        publisher.publish(run_event(1))
        publisher.flush(1)
    with pytest.raises(PublisherClosed):
        publisher.publish(run_event(1))
    assert len(publisher.events) == 1


def test_the_asyncio_one_is_the_same() -> None:
    """Interface, validation and rehearsed failures are those of the other one."""

    async def scenario() -> None:
        async with AsyncInMemoryPublisher(source="/tests") as publisher:
            as_interface: AsyncEventPublisher = publisher
            await as_interface.publish(run_event(1))
            await as_interface.flush(1)
            publisher.fail_with(SpoolFull("full"))
            with pytest.raises(SpoolFull):
                await publisher.publish(run_event(2))
        with pytest.raises(PublisherClosed):
            await publisher.publish(run_event(1))
        assert len(publisher.events) == 1

    asyncio.run(scenario())
