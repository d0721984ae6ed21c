"""Accounts, draws and corrections on the real engine, as the core's records bring them."""

from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from tests.support.command import call_command
from tests.support.craft import (
    MINUTE,
    NOW,
    Json,
    Partition,
    card,
    entries,
    envelope,
    run,
    session,
    text_of,
    void,
)
from tests.support.journal import TODAY_US, Writer, decoded
from tests.support.stack import ClickHouseAddress

from meterstream.cli.corrections.look_up import paid_for_run
from meterstream.cli.corrections.sessions import find_session
from meterstream.cli.entries.granted import Left, read_left
from meterstream.cli.errors import BadInput
from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.flush import flush
from meterstream.sinks.record import JournalRecord
from meterstream.sinks.state import PartitionState
from meterstream.sinks.store import ClickHouseStore
from meterstream.streams.core import Step


def grant(grant_id: str, kind: str, amount: int, **data: Any) -> Json:
    """Return a grant of credits to the team."""
    about = {"team_id": "team", "grant_id": grant_id, "kind": kind, "amount_micro": amount}
    return envelope("credits.granted", grant_id, NOW, {**about, **data})


def written(writer: Writer, step: Step, events: int) -> JournalRecord:
    """Return a step of the core as a record that the sink reads."""
    sections: dict[Section, bytes] = {
        section: bytes(data)
        for section, data in unpack_sections(step.value).items()
        if section is not Section.VERDICTS
    }
    return writer.record(verdicts=[Verdict.COUNTED] * events, sections=sections)


def test_credits_are_stored_and_given_back(migrated: Client, store: ClickHouseStore) -> None:
    """Draws by kind, balances, grants and corrections are right however often a flush is done."""
    partition, writer = Partition(clock_us=TODAY_US), Writer()
    reward = grant("g-2", "reward", 200, priority=10, expires_at=text_of(TODAY_US + 10**12))
    paid = run("e-1", TODAY_US, session_id="s", credits_micro=500, latency_us=5_000)
    broke = run("e-2", TODAY_US, run_id="other", credits_micro=900)
    steps = [
        (partition.take(paid, control=entries(grant("g-1", "funded", 1000), reward)), 1),
        (partition.take(broke), 1),
        (partition.take(control=entries(void(paid), first=2)), 0),
    ]
    records = [writer.genesis(TODAY_US), *(written(writer, step, events) for step, events in steps)]
    for _ in range(2):
        state = PartitionState(0)
        for one in decoded(*records):
            state.add(one)
        flush([state], store, lambda links: None, now_us=0)

    def rows(sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in migrated.query(sql).result_rows]

    micro = Decimal(1) / 1_000_000
    assert rows("SELECT balance, granted, drawn, is_exhausted FROM balances") == [
        (300 * micro, 1200 * micro, 900 * micro, 0)
    ]
    endless = "toYear(expires_at) = 2299"
    assert rows(f"SELECT grant_id, left_micro, {endless} FROM grants FINAL ORDER BY 1") == [
        ("g-1", 300, 1),
        ("g-2", 0, 0),
    ]
    stored = read_left(migrated, "team")
    assert stored.grants["team", "g-1"] == Left("open", 300, 0, 0)
    assert stored.until is not None
    assert read_left(migrated, "other").grants == {}
    drawn = "SELECT event_offset, control_offset, grant_id, kind, amount_micro FROM draws FINAL"
    assert rows(f"{drawn} ORDER BY journal_offset, number") == [
        (0, -1, "g-2", "reward", 200),
        (0, -1, "g-1", "funded", 300),
        (1, -1, "g-1", "funded", 700),
        (1, -1, "", "overdraft", 200),
        (-1, 2, "", "overdraft", -200),
        (-1, 2, "g-1", "funded", -300),
    ]
    assert rows("SELECT run_id, original_id, runs, credits_micro, late FROM corrections FINAL") == [
        ("run", "e-1", -1, -500, 3)
    ]
    usage = "usage_by_team(window = '1d', zone = 'UTC', since = '', until = '')"
    assert rows(f"SELECT runs, credits_micro, latency_p50_ms FROM {usage}")[0][:2] == (1, 900)
    migrated.command(
        "INSERT INTO runs (event_offset, event_time, event_type, team_id, run_id, session_id,"
        " events_topic_id, generation, partition, log_time, version)"
        " SELECT event_offset, event_time, 'completed', team_id,"
        " if(event_offset = 0, 'run', 'other'), 's', events_topic_id, generation, partition,"
        " log_time, 1"
        " FROM charges FINAL"
    )
    assert rows("SELECT run_id, kind, credits_micro FROM draws_by_run ORDER BY 1, 2") == [
        ("other", "funded", 700),
        ("other", "overdraft", 200),
        ("run", "funded", 0),
        ("run", "overdraft", -200),
        ("run", "reward", 200),
    ]
    assert paid_for_run(migrated, "team", "other") == {"funded": 700, "overdraft": 200}


def test_a_session_knows_what_paid_for_it(
    migrated: Client, store: ClickHouseStore, clickhouse: ClickHouseAddress, database: str
) -> None:
    """Its time and its runs are told apart, by kind of credits."""
    partition, writer = Partition(clock_us=TODAY_US), Writer()
    prices = card()
    prices["data"]["session_micro_per_second"] = {"small": 10}
    granted = entries(grant("g-1", "funded", 1000), grant("g-2", "reward", 250, priority=10))
    begun = session("started", "s-1", TODAY_US, application="a", machine_size="small")
    beat = session("heartbeat", "s-2", TODAY_US + MINUTE)
    other = session("heartbeat", "s-3", TODAY_US + MINUTE, session_id="other")
    steps = [
        (partition.take(begun, catalog=entries(prices), control=granted), 1),
        (partition.take(run("e-1", TODAY_US, session_id="s", credits_micro=200)), 1),
        (partition.take(beat, other, at_us=TODAY_US + MINUTE), 2),
    ]
    records = [writer.genesis(TODAY_US), *(written(writer, step, events) for step, events in steps)]
    state = PartitionState(0)
    for one in decoded(*records):
        state.add(one)
    flush([state], store, lambda links: None, now_us=0)
    migrated.command(
        "INSERT INTO runs (event_offset, event_time, event_type, team_id, run_id, session_id,"
        " credits_micro, events_topic_id, generation, partition, log_time, version)"
        " SELECT event_offset, event_time, 'completed', team_id, 'run', 's', credits_micro,"
        " events_topic_id, generation, partition, log_time, 1 FROM charges FINAL"
        " WHERE session_id = ''"
    )
    found = migrated.query(
        "SELECT session_id, kind, time_micro, runs_micro, credits_micro FROM draws_by_session"
        " ORDER BY 1, 2"
    )
    assert found.result_rows == [("s", "funded", 550, 0, 550), ("s", "reward", 50, 200, 250)]
    explained = find_session(migrated, "s", None)
    (time,) = explained.time
    assert (time.card, time.charges, time.session_us) == ("default@1", 1, MINUTE)
    assert (explained.time_micro, explained.status, explained.runs) == (600, "active", 1)
    assert explained.paid == {"funded": 550, "reward": 250}
    with pytest.raises(BadInput, match="there is no session 'none' of team team"):
        find_session(migrated, "none", "team")
    env = {
        "METERSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:1",  # nothing of it is asked
        "METERSTREAM_CLICKHOUSE_URL": clickhouse.url,
        "METERSTREAM_CLICKHOUSE_USER": clickhouse.user,
        "METERSTREAM_CLICKHOUSE_PASSWORD": clickhouse.password,
        "METERSTREAM_CLICKHOUSE_DATABASE": database,
    }
    shown = call_command("credits", "explain", "--session", "s", env=env)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[-3:] == [
        "charged for its time: 0.0006",
        "charged for its runs (1): 0.0002",
        "paid by: 0.00055 funded, 0.00025 reward",
    ]
    told = call_command("credits", "explain", "--session", "s", "--json", env=env).json
    assert (told["credits_micro"], told["paid_micro"]["reward"]) == (800, 250)
    assert call_command("credits", "explain", "run", "--session", "s", env=env).exit_code == 2
