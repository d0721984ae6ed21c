"""The organisations feed as it runs: from a journal on a real broker into the real engine."""

import time
from collections.abc import Callable
from uuid import UUID

from clickhouse_connect.driver.client import Client
from tests.integration.sinks.journal_topic import JournalTopic, create_topics, make_anew
from tests.support.journal import DAY_US, Writer, limit
from tests.support.waiting import eventually

from meterstream.sinks.service import Service
from meterstream.sinks.settings import SinkSettings

NOW_US = time.time_ns() // 1000
TODAY_US = NOW_US // DAY_US * DAY_US


def state(used: int) -> dict[str, object]:
    """Return where the limit of an organisation stands."""
    ends_us = TODAY_US + 2 * DAY_US
    return limit(
        TODAY_US, window_end=ends_us, team_id="acme-group", subject="organisation", used=used
    )


def test_a_restart_goes_on_also_in_a_journal_that_was_made_again(
    kafka: str,
    prefix: str,
    settings: SinkSettings,
    run_sink: Callable[[SinkSettings], Service],
    migrated: Client,
) -> None:
    """It stands where the last record says; without one it tells which meter is to begin anew."""
    settings = settings.model_copy(update={"sink_feeds": ("organisations",)})
    create_topics(kafka, prefix, "org-journal")
    journal = JournalTopic(kafka, prefix + "org-")
    writer = Writer(events_topic_id=UUID(int=2))

    def stands_at(used: int) -> None:
        def reached() -> bool:
            found = migrated.query("SELECT organisation_id, used FROM limits").result_rows
            return found == [("acme-group", used)]

        eventually(reached, 60, f"{used} in ClickHouse")

    def stop(service: Service) -> None:
        service.stop()
        service.wait()

    journal.write(writer.genesis(NOW_US), writer.step(limits=[state(1)]))
    first = run_sink(settings)
    stands_at(1)
    stop(first)
    journal.write(writer.step(limits=[state(2)]))
    second = run_sink(settings)
    stands_at(2)
    stop(second)
    make_anew(kafka, prefix, "org-journal")
    again = Writer(events_topic_id=UUID(int=2), generation=2, prev=writer.prev)
    again.events_position = writer.events_position
    begun = run_sink(settings)
    eventually(lambda: "organisations" in begun.failures, 60, "it misses its records")
    advice = "`meterstream meter --organisations --new-generation --partition 0`"
    assert advice in begun.failures["organisations"]
    journal.write(again.genesis(NOW_US), again.step(limits=[state(3)]))
    run_sink(settings)
    stands_at(3)
    assert not first.failures | second.failures
