"""Events that come again, and events that contradict themselves."""

import pytest
from tests.support.craft import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Json,
    Partition,
    cells,
    charges,
    envelope,
    rejects,
    run,
    session,
    text_of,
    verdicts,
)

from meterstream.schemas.journal import Section, unpack_sections
from meterstream.schemas.verdicts import Verdict

FIRST_TOKEN = "data: time_to_first_token_us exceeds latency_us"
APART = "time and data.ended_at lie more than 5 minutes apart; usage is counted at time"

COUNTED, DUPLICATE, CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


def started(event_id: str, at_us: int = NOW) -> Json:
    """Return the start of a run."""
    data = {
        "team_id": "team",
        "run_id": "r",
        "operation": "feature",
        "started_at": "2026-01-01T00:00:00Z",
    }
    return envelope("run.started", event_id, at_us, data)


def test_a_resend_counts_once() -> None:
    """The same event again, dressed otherwise, is a duplicate, in its batch or a later one."""
    event = run("a", user_id=None, tags={"k": "v", "l": "w"})
    again = {
        **event,
        "data": dict(reversed([*event["data"].items(), ("user_id", None), ("input_tokens", 0)])),
        "time": "2026-01-01T01:00:00.0000000+01:00",
        "subject": "another",
        "traceparent": "00-1",
    }
    partition = Partition()
    step = partition.take(event, again)
    assert verdicts(step) == [COUNTED, DUPLICATE]
    assert verdicts(partition.take(again, event)) == [DUPLICATE, DUPLICATE]
    assert partition.state.dedup_ids == 1
    assert cells(step)[0][1]["runs"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"time": "2026-01-01T00:00:00.000001Z"},
        {"type": "meterstream.run.started.v1"},
        {"input_tokens": 1},
        {"status": "failed"},
        {"tags": {"k": "w"}},
        {"user_id": "u"},
        {"started_at": "2025-12-31T23:59:58Z"},
    ],
    ids=str,
)
def test_the_same_identity_with_other_content_is_a_conflict(change: Json) -> None:
    """The first wins; the second goes to the DLQ and changes no usage, in one batch or two."""
    event = run("a", tags={"k": "v"})
    other = {**event, **{k: v for k, v in change.items() if k in event}}
    other["data"] = event["data"] | {k: v for k, v in change.items() if k not in event}
    if "type" in change:
        del other["data"]["status"]
    detail = "id: an event of this team, source and id with other content was counted"
    partition = Partition()
    together = partition.take(event, other)
    assert verdicts(together) == [COUNTED, CONFLICT]
    assert rejects(together) == [("events", 1, CONFLICT, detail)]
    assert together.counts == {"counted": 1, "conflict": 1}
    apart = partition.take(other)
    assert verdicts(apart) == [CONFLICT]
    assert (cells(apart), Section.IDS in unpack_sections(apart.value)) == ([], False)


@pytest.mark.parametrize(
    "change", [{"source": "/other"}, {"id": "b"}, {"team_id": "team-2"}], ids=str
)
def test_another_team_source_or_id_is_another_event(change: Json) -> None:
    """All three make the identity."""
    event = run("a")
    other = {**event, **change}
    if "team_id" in change:
        other = run("a", **change)
    assert verdicts(Partition().take(event, other)) == [COUNTED, COUNTED]


@pytest.mark.parametrize(
    ("later_us", "verdict"), [(26 * HOUR - 1, DUPLICATE), (26 * HOUR, Verdict.TOO_LATE)]
)
def test_a_resend_is_recognised_past_the_horizon(later_us: int, verdict: Verdict) -> None:
    """Ids are kept one hour longer than the horizon, and until the end of their hour."""
    partition = Partition()
    event = run("a", NOW + 10)
    partition.take(event)
    assert verdicts(partition.take(event, at_us=NOW + later_us)) == [verdict]


def test_an_identity_that_was_forgotten_may_come_back() -> None:
    """After its expiry an id may be used again, for an event of another time, and is kept again."""
    partition = Partition()
    partition.take(run("a"))
    later = NOW + 26 * HOUR
    step = partition.take(run("a", later), run("a", later), run("a", later + 1), at_us=later)
    assert verdicts(step) == [COUNTED, DUPLICATE, CONFLICT]
    assert verdicts(partition.take(run("a", later))) == [DUPLICATE]
    assert partition.state.dedup_ids == 1


def test_refused_events_do_not_enter_the_identities() -> None:
    """What went to the DLQ may be mended and sent again under the same id."""
    partition = Partition()
    step = partition.take(run("a", cost=1), run("a", NOW + HOUR), run("a", NOW - 2 * DAY), run("a"))
    assert verdicts(step) == [Verdict.UNKNOWN_FIELD, Verdict.TIME_AHEAD, Verdict.TOO_LATE, COUNTED]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"input_tokens": 1, "cached_tokens": 2}, "data: cached_tokens exceed input_tokens"),
        (
            {"output_tokens": 1, "reasoning_tokens": 2},
            "data: reasoning_tokens exceed output_tokens",
        ),
        ({"started_us": NOW + 1}, "time lies before started_at"),
        (
            {"started_us": NOW, "ended_at": "2025-12-31T23:59:59Z"},
            "data: ended_at lies before started_at",
        ),
        ({"started_us": NOW - 7 * DAY - 1}, "a run lasts seven days at most"),
        (
            {"started_us": NOW - 9 * DAY, "ended_at": "2026-01-01T00:00:00Z"},
            "a run lasts seven days at most",
        ),
        ({"latency_us": 8, "time_to_first_token_us": 9}, FIRST_TOKEN),
        ({"latency_us": 0, "time_to_first_token_us": 1}, FIRST_TOKEN),
        ({"started_us": NOW - HOUR, "ended_at": text_of(NOW - 5 * MINUTE - 1)}, APART),
        ({"ended_at": text_of(NOW + 5 * MINUTE + 1)}, APART),
    ],
    ids=str,
)
def test_a_run_that_contradicts_itself_is_refused(change: Json, detail: str) -> None:
    """The models name what contradicts what; the runs beside it are counted."""
    step = Partition().take(run("a"), run("b", **change), run("c"), session("heartbeat"))
    assert verdicts(step) == [COUNTED, Verdict.INCONSISTENT, COUNTED, COUNTED]
    assert rejects(step) == [("events", 1, Verdict.INCONSISTENT, detail)]
    assert cells(step)[0][1]["runs"] == 2
    assert [c["event_offset"] for c in charges(step)] == [0, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": 2, "cached_tokens": 2, "output_tokens": 3, "reasoning_tokens": 3},
        {"started_us": NOW},
        {"started_us": NOW - 7 * DAY},
        {"started_us": NOW, "ended_at": "2026-01-01T00:00:00Z"},
        {"latency_us": 9, "time_to_first_token_us": 9},
        {"time_to_first_token_us": 2 * SECOND},
        {"started_us": NOW - HOUR, "ended_at": text_of(NOW - 5 * MINUTE)},
        {"ended_at": text_of(NOW + 5 * MINUTE)},
    ],
    ids=str,
)
def test_a_run_at_the_edge_of_a_rule_is_counted(change: Json) -> None:
    """Parts as large as the whole, no duration, seven days, and clocks 5 minutes apart pass."""
    assert verdicts(Partition().take(run(**change))) == [COUNTED]


def test_all_contradictory_runs_of_a_batch_are_refused() -> None:
    """Where every run is refused there is no usage, and nothing is remembered."""
    partition = Partition()
    step = partition.take(*(run(str(i), cached_tokens=1) for i in range(5)))
    assert verdicts(step) == [Verdict.INCONSISTENT] * 5
    assert (cells(step), charges(step), partition.state.dedup_ids) == ([], [], 0)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_times_at_the_calendars_ends_have_a_verdict(time: str) -> None:
    """The calendar's first and last microseconds are too late and too far ahead, no failure."""
    expected = Verdict.TOO_LATE if time.startswith("0001") else Verdict.TIME_AHEAD
    events = [
        run("a", started_at=time, ended_at=time) | {"time": time},
        session("heartbeat", "b") | {"time": time},
        started("c") | {"time": time},
    ]
    assert verdicts(Partition().take(*events, run("d"))) == [expected, expected, expected, COUNTED]
    odd = started("e")
    odd["data"]["started_at"] = time
    assert verdicts(Partition().take(odd)) == [COUNTED]
