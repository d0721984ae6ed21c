"""Threshold events from the crossings of a journal record."""

import json
from typing import Any

import pytest
from tests.support.journal import DAY_US, EVENTS_TOPIC_ID
from tests.support.limits import DAY_1_US, LimitJournal, crossing

from meterstream.schemas.journal import MalformedRecord
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import threshold_id
from meterstream.schemas.times import format_rfc3339, from_us
from meterstream.schemas.topics import THRESHOLDS
from meterstream.streams.journal.reader import JournalRecord
from meterstream.streams.publisher.crossings import KindUnknown, threshold_records

START = format_rfc3339(from_us(DAY_1_US))
CAUSE = {"source": "/tests", "id": "e-7", "offset": 7}


def record() -> JournalRecord:
    """Return the record at offset 1 of a journal."""
    return LimitJournal().step(clock_us=DAY_1_US + 5_000_000)


def events_of(*rows: Any) -> list[dict[str, Any]]:
    """Return the threshold events of rows; each is one of the contract."""
    told = threshold_records(json.dumps(rows).encode(), record(), 3, "/t.thresholds")
    for one in told:
        assert parse_event(one.value, THRESHOLDS).source == "/t.thresholds"
        assert one.key == b"team-1"
        assert one.caused_us == DAY_1_US + 5_000_000
    return [json.loads(one.value) for one in told]


def test_the_time_since_its_event() -> None:
    """How long it took is measured from the log time of the event that crossed, if one did."""
    at_us = DAY_1_US + 4_000_000
    for row, caused_us in (
        (crossing("reached", cause_log_time_us=at_us), at_us),
        (crossing("reset", reason="window"), DAY_1_US + 5_000_000),
    ):
        (told,) = threshold_records(json.dumps([row]).encode(), record(), 3, "/t.thresholds")
        assert told.caused_us == caused_us


def test_a_level_that_was_reached() -> None:
    """A reached level is told whole: limit, window, total, cause, and up to where was counted."""
    row = crossing("reached", subject="user", subject_id="u-1", level_permille=800, used=812)
    (event,) = events_of(row)
    type_ = "meterstream.usage.threshold.reached.v1"
    assert event == {
        "specversion": "1.0",
        "type": type_,
        "source": "/t.thresholds",
        "id": threshold_id(type_, "team-1", "l-1", 1, START, 800),
        "time": format_rfc3339(from_us(DAY_1_US + 5_000_000)),
        "data": {
            "team_id": "team-1",
            "limit_id": "l-1",
            "limit_version": 1,
            "subject": "user",
            "subject_id": "u-1",
            "measure": "tokens",
            "window": "day",
            "window_start": START,
            "window_end": format_rfc3339(from_us(DAY_1_US + DAY_US)),
            "amount": 1000,
            "as_of": {
                "events_topic_id": str(EVENTS_TOPIC_ID),
                "generation": 1,
                "partition": 3,
                "journal_offset": 1,
                "events_position": 0,
            },
            "level_permille": 800,
            "used": 812,
            "cause": CAUSE,
        },
    }


def test_what_blocks_and_admits_again() -> None:
    """Their ids hold the place in the journal, for the same limit may block again."""
    blocked, reset = events_of(crossing("blocked"), crossing("reset", reason="changed", cause=None))
    assert blocked["id"] == threshold_id(blocked["type"], "team-1", "l-1", 1, START, 1, 1)
    assert reset["id"] == threshold_id(reset["type"], "team-1", "l-1", 1, START, 1, 1)
    assert blocked["data"]["cause"] == CAUSE
    assert reset["data"]["reason"] == "changed"
    assert "cause" not in reset["data"]


def test_a_change_that_comes_twice_in_a_record() -> None:
    """A limit that blocks, admits and blocks again within one record makes three events."""
    rows = [crossing("blocked"), crossing("reset"), crossing("blocked")]
    found = events_of(*rows)
    assert len({event["id"] for event in found}) == 3
    assert [event["id"] for event in events_of(*rows)] == [event["id"] for event in found]


def test_balances() -> None:
    """What the ledger tells is made public under the types of credits."""
    balance: dict[str, Any] = {"window": "balance", "window_end_us": None, "measure": "credits"}
    low, exhausted, expiring = events_of(
        crossing("low", **balance, level_permille=100, balance_micro=-5),
        {
            "kind": "exhausted",
            "team_id": "team-1",
            "balance_micro": -10,
            "overdraft_micro": 10,
            "cause": {"offset": 7, "source": "/tests", "id": "e-7"},
        },
        {
            "kind": "expiring",
            "team_id": "team-1",
            "grant_id": "g-1",
            "left_micro": 5,
            "expires_at_us": DAY_1_US,
        },
    )
    assert low["type"] == "meterstream.credits.low.v1"
    assert low["id"] == threshold_id(low["type"], "team-1", "l-1", 1, START, 100)
    assert low["data"]["balance_micro"] == -5
    assert "window_end" not in low["data"]
    assert exhausted["id"] == threshold_id(exhausted["type"], "team-1", 1, 1)
    assert exhausted["data"]["overdraft_micro"] == 10
    assert expiring["id"] == threshold_id(expiring["type"], "team-1", "g-1")
    assert expiring["data"]["expires_at"] == START


def test_a_kind_of_a_newer_release() -> None:
    """A kind that is not known here is not passed over."""
    with pytest.raises(KindUnknown, match="'vanished'"):
        events_of(crossing("vanished"))


@pytest.mark.parametrize(
    "rows",
    [
        b"{",
        b"[1]",
        json.dumps([crossing("reached") | {"level_permille": 0}]).encode(),
        json.dumps([crossing("reached") | {"window_start_us": 2**70}]).encode(),
        json.dumps([{"kind": "reached"}]).encode(),
    ],
)
def test_crossings_that_cannot_be_read(rows: bytes) -> None:
    """What is no such section is said to be none, with its offset."""
    with pytest.raises(MalformedRecord, match="CROSSINGS of journal offset 1 "):
        threshold_records(rows, record(), 0, "/t")


@pytest.mark.parametrize(
    ("kind", "permille", "level"),
    [
        ("reached", 1, "0"),
        ("reached", 499, "0"),
        ("reached", 500, "500"),
        ("reached", 899, "800"),
        ("low", 900, "900"),
        ("low", 1000, "1000"),
        ("reached", 1001, "above"),
    ],
)
def test_the_class_of_a_level(kind: str, permille: int, level: str) -> None:
    """Metrics tell a few levels apart, however many limits have."""
    about: dict[str, Any] = {}
    if kind == "low":
        about = {"balance_micro": 5, "window_end_us": None, "window": "balance"}
    row = crossing(kind, level_permille=permille, **about)
    (told,) = threshold_records(json.dumps([row]).encode(), record(), 3, "/t.thresholds")
    assert (told.kind, told.level) == (kind, level)


def test_a_change_without_level() -> None:
    """It is counted under none."""
    row = crossing("reset", reason="window")
    (told,) = threshold_records(json.dumps([row]).encode(), record(), 3, "/t.thresholds")
    assert told.level == "none"
