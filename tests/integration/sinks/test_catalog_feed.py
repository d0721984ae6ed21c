"""The catalog feed: entries of the catalog topic become rows of the dimension tables."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from tests.integration.sinks.journal_topic import create_topics, make_anew
from tests.support.waiting import eventually

from meterstream.schemas import catalog
from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

RunSink = Callable[[SinkSettings], Service]


@pytest.fixture
def catalog_settings(kafka: str, prefix: str, settings: SinkSettings) -> SinkSettings:
    """Return settings for a sink that reads an empty catalog topic."""
    create_topics(kafka, prefix, "catalog")
    return settings.model_copy(update={"sink_feeds": ("catalog",)})


def events() -> list[catalog.CatalogEvent]:
    """Return one event of each type, and a second version of a team."""
    envelope: dict[str, Any] = {"source": "/admin", "time": NOW}

    def team(name: str, number: int) -> catalog.TeamRegistered:
        data = catalog.TeamRegisteredData(
            team_id="t-1", organisation_id="o-1", name=name, zone="Europe/Berlin"
        )
        return catalog.TeamRegistered(id=f"t{number}", data=data, **envelope)

    return [
        catalog.OrganisationRegistered(
            id="1",
            data=catalog.OrganisationRegisteredData(organisation_id="o-1", name="O"),
            **envelope,
        ),
        team("Old", 1),
        team("New", 2),
        catalog.UserRegistered(
            id="3",
            data=catalog.UserRegisteredData(user_id="u-1", email="u@example.org", display_name="U"),
            **envelope,
        ),
        catalog.MembershipChanged(
            id="4",
            data=catalog.MembershipChangedData(
                user_id="u-1", team_id="t-1", role="admin", valid_from=NOW
            ),
            **envelope,
        ),
        catalog.AgentRegistered(
            id="5",
            data=catalog.AgentRegisteredData(
                agent_id="a-1", name="A", agent_type="chat", created_by="u-1", created_at=NOW
            ),
            **envelope,
        ),
        catalog.ProjectRegistered(
            id="6",
            data=catalog.ProjectRegisteredData(project_id="p-1", team_id="t-1", name="P"),
            **envelope,
        ),
        catalog.FeatureRegistered(
            id="7",
            data=catalog.FeatureRegisteredData(feature_id="f-1", name="F", premium=True),
            **envelope,
        ),
        catalog.PlanPublished(
            id="8",
            data=catalog.PlanPublishedData(
                plan_id="pl-1",
                version=2,
                name="Pl",
                tier="team",
                allowance_credits_micro=5,
                features=("f-1",),
            ),
            **envelope,
        ),
        catalog.RateCardPublished(
            id="9",
            data=catalog.RateCardPublishedData(
                name="default",
                version=3,
                effective_from=NOW,
                prices=(catalog.PriceLine(model="m-1", input_micro_per_1k=7),),
                session_micro_per_second={"small": 4},
            ),
            **envelope,
        ),
    ]


def publish(bootstrap: str, topic: str, *values: catalog.CatalogEvent | bytes | None) -> None:
    """Write entries to the catalog."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        if value is None or isinstance(value, bytes):
            producer.produce(topic, key=b"team/t-1", value=value)
        else:
            text = value.model_dump_json(exclude_none=True).encode()
            producer.produce(topic, key=catalog.catalog_key(value).encode(), value=text)
    assert producer.flush(30) == 0


def test_each_kind_of_entry_has_its_row(
    kafka: str, catalog_settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """The newest entry of each key stands in the table of its kind; refused ones are counted."""
    topic = catalog_settings.topic("catalog")
    publish(kafka, topic, *events(), b"{}", None)
    service = run_sink(catalog_settings)

    def found(sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in migrated.query(sql).result_rows]

    position = "SELECT next_offset FROM positions FINAL WHERE feed = 'catalog'"
    eventually(lambda: found(position) == [(12,)] or service.failures, 60, "all entries")
    assert not service.failures
    assert found("SELECT name, organisation_id, zone FROM teams FINAL") == [
        ("New", "o-1", "Europe/Berlin")
    ]
    assert found("SELECT name, parent_id FROM organisations FINAL") == [("O", "")]
    assert found("SELECT email FROM users FINAL") == [("u@example.org",)]
    assert found("SELECT team_id, role, valid_until FROM memberships FINAL") == [
        ("t-1", "admin", None)
    ]
    assert found("SELECT agent_type, team_id FROM agents FINAL") == [("chat", "")]
    assert found("SELECT team_id FROM projects FINAL") == [("t-1",)]
    assert found("SELECT premium FROM features FINAL") == [(True,)]
    assert found("SELECT plan_version, features, rollover_expiry_days FROM plans FINAL") == [
        (2, ["f-1"], None)
    ]
    assert found("SELECT card_version, prices, session_micro_per_second FROM rate_cards FINAL")[0][
        2
    ] == {"small": 4}
    assert service.metrics.refused_entries._value.get() == 1


def test_a_catalog_that_was_made_again_is_read_from_its_beginning(
    kafka: str, prefix: str, catalog_settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """Also where it has grown past the old one; its entries outweigh those, and the others stay."""
    topic = catalog_settings.topic("catalog")
    position = "SELECT next_offset FROM positions FINAL WHERE feed = 'catalog'"
    publish(kafka, topic, *events())
    first = run_sink(catalog_settings)
    eventually(lambda: migrated.command(position) == 10, 60, "all entries")
    first.stop()
    first.wait()
    make_anew(kafka, prefix, "catalog")
    old, new = events()[1:3]
    two = new.model_copy(update={"data": new.data.model_copy(update={"team_id": "t-2"})})
    publish(kafka, topic, two, old, *[events()[0]] * 10)
    second = run_sink(catalog_settings)
    eventually(lambda: migrated.command(position) == 12 or second.failures, 60, "the new entries")
    teams = migrated.query("SELECT team_id, name FROM teams FINAL ORDER BY team_id").result_rows
    assert [tuple(row) for row in teams] == [("t-1", "Old"), ("t-2", "New")]
    assert migrated.command("SELECT count() FROM rate_cards FINAL") == 1


def test_a_restart_changes_no_row(
    kafka: str, catalog_settings: SinkSettings, run_sink: RunSink, migrated: Client
) -> None:
    """A second sink reads the same entries again, and what is new."""
    topic = catalog_settings.topic("catalog")
    publish(kafka, topic, *events())
    first = run_sink(catalog_settings)
    position = "SELECT next_offset FROM positions FINAL WHERE feed = 'catalog'"
    eventually(lambda: migrated.command(position) == 10, 60, "all entries")
    first.stop()
    first.wait()
    teams = "SELECT * FROM teams FINAL"
    before = migrated.query(teams).result_rows
    publish(kafka, topic, *events()[:1])
    run_sink(catalog_settings)
    eventually(lambda: migrated.command(position) == 11, 60, "the new entry")
    assert migrated.query(teams).result_rows == before
