"""Rows of the history from events, without a broker."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from tests.support.journal import TODAY_US, Writer, cell

from meterstream.schemas.verdicts import Verdict
from meterstream.sinks.record import Decoded, decode
from meterstream.sinks.run_events import Event, read_event
from meterstream.sinks.run_rows import counted_offsets, make_history

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
KEY = {"team_id": "team-1", "operation": "agent_run", "model": "m-1"}


def event(**data: object) -> Event:
    """Return a completed run at noon that began two seconds before."""
    told = {
        "id": "e-1",
        "source": "/apps/chat",
        "type": data.pop("type", "meterstream.run.completed.v1"),
        "time": data.pop("time", "2026-11-22T12:00:00Z"),
        "data": {"run_id": "r", "started_at": "2026-11-22T11:59:58Z", **KEY, **data},
    }
    found = read_event(json.dumps(told).encode())
    assert found is not None
    return found


def step(
    count: int = 1, verdicts: list[Verdict] | None = None, agents: Sequence[str] = ("",)
) -> Decoded:
    """Return a decoded step that counted `count` runs, charged by their offset, a cell an agent."""
    writer = Writer()
    writer.genesis(TODAY_US)
    charges = [
        {
            "event_offset": at,
            "event_time": NOON_US,
            "credits_micro": 100 + at,
            "card": "c",
            "cell": at % len(agents),
        }
        for at in range(count)
    ]
    cells = [cell(TODAY_US, model="m-1", agent_id=agent) for agent in agents]
    record = writer.step(cells, charges=charges, verdicts=verdicts)
    return decode(record)


def test_counted_offsets_are_those_with_that_verdict() -> None:
    """Duplicates and rejects have no history."""
    decoded = step(2, [Verdict.DUPLICATE, Verdict.COUNTED, Verdict.TOO_LARGE, Verdict.COUNTED])
    assert counted_offsets(decoded) == [1, 3]


def test_times_that_are_left_out_follow_from_the_others() -> None:
    """A run ends at its event's time, and its latency is what it took."""
    table = make_history(step(), {0: event()}).runs
    assert table is not None
    (row,) = table.to_pylist()
    assert row["ended_at"] == NOON
    assert row["latency_us"] == 2_000_000
    assert row["credits_micro"] == 100


def test_times_that_are_told_are_taken() -> None:
    """Whatever follows from the others, what the event says is written."""
    told = event(ended_at="2026-11-22T11:59:59Z", latency_us=7)
    table = make_history(step(), {0: told}).runs
    assert table is not None
    (row,) = table.to_pylist()
    assert row["ended_at"].second == 59
    assert row["latency_us"] == 7


@pytest.mark.parametrize(
    "time",
    ["2026-11-22t12:00:00z", "2026-11-22T13:00:00.0000000000+01:00", "2026-11-22 12:00:00Z"],
)
def test_times_are_read_as_the_contract_reads_them(time: str) -> None:
    """RFC 3339 with small letters, offsets and more digits than microseconds."""
    table = make_history(step(), {0: event(time=time)}).runs
    assert table is not None
    assert table["event_time"].to_pylist() == [NOON]


def test_a_started_run_has_no_charge_and_no_end() -> None:
    """It stands beside the completed ones of its record, with their charges in their places."""
    started = event(type="meterstream.run.started.v1")
    decoded = step(2, [Verdict.COUNTED] * 3)
    history = make_history(decoded, {0: event(), 1: event(), 2: started})
    assert history.runs is not None
    assert history.missing == 0
    rows = history.runs.select(["event_type", "credits_micro", "card", "ended_at"]).to_pylist()
    assert [tuple(row.values())[:3] for row in rows] == [
        ("completed", 100, "c"),
        ("completed", 101, "c"),
        ("started", 0, ""),
    ]
    assert rows[2]["ended_at"] is None


def test_a_run_without_its_event_is_made_from_its_charge() -> None:
    """The cell's key and the charge are known, and that is said."""
    history = make_history(step(2), {1: event()})
    assert history.runs is not None
    assert history.missing == 1
    rows = {row["event_offset"]: row for row in history.runs.to_pylist()}
    assert rows[0]["event_missing"] == 1
    assert rows[0]["model"] == "m-1"
    assert rows[0]["credits_micro"] == 100
    assert rows[0]["latency_us"] is None
    assert rows[1]["event_missing"] == 0


@pytest.mark.parametrize(
    "changed",
    [{"time": "2026-11-22T12:00:01Z"}, {"time": "noon"}, {"team_id": "t"}, {"user_id": "u"}],
)
def test_an_event_that_is_not_what_was_counted_is_left_out(changed: dict[str, object]) -> None:
    """Bytes of the log that changed after they were counted do not get into the history."""
    history = make_history(step(2), {0: event(), 1: event(session_id="s", **changed)})
    assert history.runs is not None
    rows = {row["event_offset"]: row["event_missing"] for row in history.runs.to_pylist()}
    assert rows == {0: 0, 1: 1}
    assert (history.missing, history.damaged) == (1, [1])
    assert history.agent_sessions is None


def test_beside_one_that_is_garbled_others_may_be_gone() -> None:
    """Both are made from their charges, and only the garbled one is told as damaged."""
    history = make_history(step(3), {0: event(time="noon"), 2: event()})
    assert history.runs is not None
    rows = {row["event_offset"]: row["event_missing"] for row in history.runs.to_pylist()}
    assert rows == {0: 1, 1: 1, 2: 0}
    assert (history.missing, history.damaged) == (2, [0])


def test_a_record_that_charges_nothing_has_its_started_runs() -> None:
    """They cost nothing and no card was applied."""
    writer = Writer()
    writer.genesis(TODAY_US)
    record = decode(writer.step(verdicts=[Verdict.COUNTED]))
    table = make_history(record, {0: event(type="meterstream.run.started.v1")}).runs
    assert table is not None
    (row,) = table.to_pylist()
    assert (row["event_type"], row["credits_micro"], row["card"]) == ("started", 0, "")


def test_sessions_are_told_once_by_agent_and_day() -> None:
    """Session events count too, and they are no runs."""
    beat = event(type="meterstream.session.heartbeat.v1", session_id="s", agent_id="a")
    run = event(session_id="s", agent_id="a")
    other = event(session_id="s")
    decoded = step(2, [Verdict.COUNTED] * 4, ("a", ""))
    history = make_history(decoded, {0: run, 1: other, 2: beat, 3: beat})
    assert history.agent_sessions is not None
    found = history.agent_sessions.select(["agent_id", "session_id"]).to_pylist()
    assert found == [{"agent_id": "", "session_id": "s"}, {"agent_id": "a", "session_id": "s"}]


def test_a_record_without_counted_events_has_no_history() -> None:
    """A genesis, an idle record, a batch of duplicates."""
    writer = Writer()
    history = make_history(decode(writer.genesis(TODAY_US)), {})
    assert history.runs is None
    assert history.agent_sessions is None


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[1]", b'{"id": 1}'])
def test_what_is_no_event_is_none(value: bytes) -> None:
    """A log that was rewritten under the meter's feet does not stop the history."""
    assert read_event(value) is None


@pytest.mark.parametrize(
    ("number", "is_read"), [(2**63 - 1, True), (2**63, False), (10**30, False)]
)
@pytest.mark.parametrize("field", ["input_tokens", "latency_us", "response_bytes", "quantities"])
def test_numbers_that_no_column_holds_are_no_events(field: str, number: int, is_read: bool) -> None:
    """Nor do damaged digits: such a run is made from its charge."""
    data = {"team_id": "t", field: {"pages": number} if field == "quantities" else number}
    told = {"id": "e", "source": "/a", "type": "t", "time": "2026-11-22T12:00:00Z", "data": data}
    assert (read_event(json.dumps(told).encode()) is not None) is is_read


def test_session_time_is_no_run() -> None:
    """A charge for session time makes no row of the history, and no run is missed for it."""
    writer = Writer()
    writer.genesis(TODAY_US)
    cells = [cell(TODAY_US, model="m-1"), cell(TODAY_US, operation="session", runs=0)]
    charges = [
        {"event_offset": at, "event_time": NOON_US, "credits_micro": 7, "card": "c", "cell": at}
        for at in range(2)
    ]
    history = make_history(decode(writer.step(cells, charges=charges)), {0: event()})
    assert history.runs is not None
    assert history.runs["event_offset"].to_pylist() == [0]
    assert (history.missing, list(history.damaged)) == (0, [])
    alone = decode(writer.step(cells[1:], charges=[{**charges[0], "event_offset": 2}]))
    assert make_history(alone, {}).runs is None


def test_a_run_keeps_the_line_and_the_amounts_of_its_charge() -> None:
    """What explains a charge stands beside the run; a run that only began has no line."""
    writer = Writer()
    writer.genesis(TODAY_US)
    charge = {
        "event_offset": 0, "event_time": NOON_US, "card": "c", "line": 3,
        "multiplier_ppm": 1_500_000, "amount_micro": 11, "cost_micro": 5,
    }  # fmt: skip
    decoded = decode(
        writer.step([cell(TODAY_US, model="m-1")], charges=[charge], verdicts=[Verdict.COUNTED] * 2)
    )
    begun = event(type="meterstream.run.started.v1")
    history = make_history(decoded, {0: event(), 1: begun})
    assert history.runs is not None
    names = ("line", "multiplier_ppm", "amount_micro", "cost_micro")
    assert [[row[name] for name in names] for row in history.runs.to_pylist()] == [
        [3, 1_500_000, 11, 5],
        [-1, 1_000_000, 0, 0],
    ]
