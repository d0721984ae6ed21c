"""Estimates from the catalog topic of a real broker."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import CollectorRegistry
from tests.support.events import agent, rate_card
from tests.support.publishing import make_settings
from tests.support.waiting import eventually

from meterstream.producers import Meter, PriceFollower, PricesUnknown
from meterstream.producers.testing import InMemoryPublisher
from meterstream.schemas.topics import CATALOG

TIMEOUT_S = 60
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_follower_reads_the_catalog_and_goes_on(kafka: str, prefix: str, tmp_path: Path) -> None:
    """It waits for the topic, reads all of it, and prices by what is written afterwards."""
    settings = make_settings(tmp_path, kafka, topic_prefix=prefix)
    topic, producer = prefix + CATALOG, Producer({"bootstrap.servers": kafka})
    with PriceFollower(settings) as prices:
        meter = Meter(
            InMemoryPublisher(), source="/tests", registry=CollectorRegistry(), prices=prices
        )
        with pytest.raises(PricesUnknown, match="has not been read to its end yet"):
            meter.estimate(at=NOW)
        admin = AdminClient({"bootstrap.servers": kafka})
        for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
            made.result(TIMEOUT_S)
        producer.produce(topic, rate_card(1, 0), key=b"rate-card/default/1")
        producer.flush(TIMEOUT_S)
        eventually(
            lambda: _is_known(meter),
            TIMEOUT_S,
            "the card is read",
        )
        producer.produce(topic, agent(1, "researcher"), key=b"agent/agent-1")
        producer.flush(TIMEOUT_S)
        eventually(
            lambda: meter.estimate(agent_id="agent-1", at=NOW).agent_type_permille == 1_337,
            TIMEOUT_S,
            "the agent is learned",
        )


def _is_known(meter: Meter) -> bool:
    try:
        return meter.estimate(at=NOW).card == "default@1"
    except PricesUnknown:
        return False
