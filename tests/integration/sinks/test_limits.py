"""The rows of limits on the real engine: where they stand, and what was told of them."""

from typing import cast
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.journal import DAY_US, TODAY_US, Writer, crossing, decoded, limit

from meterstream.schemas.journal import Link, MalformedRecord, Section
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.flush import flush
from meterstream.sinks.limits import thresholds_of
from meterstream.sinks.organisations import OrganisationsTarget
from meterstream.sinks.positions import Position, read_position
from meterstream.sinks.record import JournalRecord, decode
from meterstream.sinks.start import Start, StartFinder
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore

FAR_US = 253_370_764_800_000_000
"""The first day of the year 9999."""


def stored(store: ClickHouseStore, *records: JournalRecord, times: int = 1) -> None:
    """Flush records, as often as a sink that is killed may."""
    for _ in range(times):
        state = PartitionState(0)
        for one in decoded(*records):
            state.add(one)
        flush([state], store, lambda links: None, now_us=0)


def test_the_last_row_of_a_limit_holds(migrated: Client, store: ClickHouseStore) -> None:
    """The view shows each limit once, as it stands in the window of now, and no removed one."""
    writer = Writer()
    stored(
        store,
        writer.genesis(TODAY_US),
        writer.step(limits=[limit(TODAY_US - DAY_US), limit(TODAY_US, used=1, blocked=0)]),
        writer.step(
            limits=[
                limit(TODAY_US, used=3, blocked=0),
                limit(TODAY_US),
                limit(TODAY_US, limit_id="gone"),
                limit(TODAY_US, limit_id="credits", window="balance", window_end=FAR_US, used=1),
            ]
        ),
        writer.step(
            limits=[
                limit(TODAY_US, limit_id="gone", removed=1),
                limit(
                    TODAY_US + 1, limit_id="credits", window="balance", window_end=FAR_US, used=2
                ),
            ]
        ),
        times=2,
    )
    found = migrated.query("SELECT limit_id, used, left, blocked FROM limits ORDER BY limit_id")
    assert found.result_rows == [("credits", 2, 3, 1), ("l-1", 5, 0, 1)]
    windows = migrated.query("SELECT count() FROM limit_states FINAL WHERE limit_id = 'l-1'")
    assert windows.result_rows == [(2,)]


def test_each_threshold_is_stored_once(migrated: Client, store: ClickHouseStore) -> None:
    """Whatever kind it is, and however often the record comes."""
    writer = Writer()
    balance = {"team_id": "team-1", "balance_micro": -5, "overdraft_micro": 7}
    expiring = {"team_id": "team-1", "grant_id": "g", "left_micro": 3, "expires_at_us": TODAY_US}
    stored(
        store,
        writer.genesis(TODAY_US),
        writer.step(
            crossings=[
                crossing(TODAY_US),
                crossing(TODAY_US, kind="reset", reason="window", cause=None),
                {"kind": "exhausted", **balance},
                {"kind": "expiring", **expiring},
            ]
        ),
        times=2,
    )
    found = migrated.query(
        "SELECT kind, level_permille, used, amount, reason, cause_offset, cause_id, balance_micro,"
        " grant_id, left_micro FROM thresholds FINAL ORDER BY number"
    )
    assert found.result_rows == [
        ("reached", 800, 4, 5, "", 7, "e-7", 0, "", 0),
        ("reset", 800, 4, 5, "window", -1, "", 0, "", 0),
        ("exhausted", 0, 0, 7, "", -1, "", -5, "", 0),
        ("expiring", 0, 0, 0, "", -1, "", 0, "g", 3),
    ]


@pytest.mark.parametrize("broken", [b"{", b"{}", b"[1]", b'[{"kind": "reached"}]'])
def test_what_is_no_crossing_stops_the_reader(broken: bytes) -> None:
    """A record that cannot be read is not passed over."""
    writer = Writer()
    writer.genesis(TODAY_US)
    record = writer.record(sections={Section.CROSSINGS: broken})
    with pytest.raises(MalformedRecord, match="CROSSINGS"):
        thresholds_of(decode(record))


def test_organisations_have_limits_of_their_own(migrated: Client, store: ClickHouseStore) -> None:
    """One with the name of a team and its limit's replaces nothing; a cause names the team."""
    of_teams, writer = Writer(), Writer(events_topic_id=UUID(int=2))
    stored(
        store,
        of_teams.genesis(TODAY_US),
        of_teams.step(limits=[limit(TODAY_US, used=3)], crossings=[crossing(TODAY_US)]),
    )
    told = {"organisation_id": "team-1", "subject": "organisation"}
    cause = {"offset": 8, "source": "/events", "id": "u-8", "team_id": "team-2"}
    of_organisation = {**crossing(TODAY_US), **told, "cause": cause}
    del of_organisation["team_id"]
    state = limit(TODAY_US, used=9, subject="organisation")
    target = OrganisationsTarget(migrated, store, cast(StartFinder, Beginning()))
    target.assigned(0, None)
    committed: dict[int, Link] = {}
    for record in (
        writer.genesis(TODAY_US),
        writer.step(limits=[state], crossings=[of_organisation], verdicts=[Verdict.COUNTED]),
    ):
        target.add(record)
    target.flush(committed.update)
    assert committed == {0: writer.chain.link}
    assert read_position(migrated, "organisations", 0) == Position(
        "organisations", 0, committed[0], record.version
    )
    found = migrated.query("SELECT team_id, organisation_id, used FROM limits ORDER BY used")
    assert found.result_rows == [("team-1", "", 3), ("", "team-1", 9)]
    found = migrated.query(
        "SELECT team_id, organisation_id, subject, cause_offset, cause_team_id FROM thresholds"
        " FINAL ORDER BY cause_offset"
    )
    assert found.result_rows == [
        ("team-1", "", "team", 7, ""),
        ("", "team-1", "organisation", 8, "team-2"),
    ]
    counts = "SELECT (SELECT count() FROM ledger), (SELECT sum(counted) FROM organisation_ledger)"
    assert migrated.query(counts).result_rows == [(2, 1)]


class Beginning:
    """Says that everything is to be read."""

    def find(self, _partition: int, _committed: Link | None) -> Start:
        return Start(0, None)
