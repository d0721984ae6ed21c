"""What the meter asks about its topics before it starts, where the broker does not tell all."""

import logging
import uuid

import pytest

from meterstream.streams.kafka import Broker, NotAllowed
from meterstream.streams.meter import look_up_topics
from meterstream.streams.settings import MeterSettings


class GuardedBroker(Broker):
    """A broker whose topics are as they must be, and which shows this user no settings."""

    def __init__(self) -> None:
        super().__init__(MeterSettings())

    def partitions(self, topic: str) -> int:
        return 1

    def topic_id(self, topic: str) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, topic)

    def setting(self, topic: str, name: str) -> str:
        raise NotAllowed("Broker: Topic authorization failed")


def test_settings_that_may_not_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    """A user that may not look at settings can run the meter, and is told what was not checked."""
    with caplog.at_level(logging.WARNING, "meterstream.meter"):
        _, partitions = look_up_topics(GuardedBroker(), MeterSettings())
    assert partitions == 1
    events, journal = caplog.messages
    assert events.startswith("meterstream.events: Broker: Topic authorization failed. So its")
    assert journal.startswith("meterstream.journal: ")
    assert "message.timestamp.type cannot be checked; it must be LogAppendTime" in events
