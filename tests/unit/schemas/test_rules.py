"""The rules between the fields of catalog and control events, each broken alone."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from meterstream.schemas.catalog import UserRegistered, UserRegisteredData
from meterstream.schemas.registry import MODELS, InvalidEvent, parse_event
from meterstream.schemas.verdicts import Verdict

BEFORE, TIME, AFTER = (f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3))
ORIGINAL = {
    "team_id": "t",
    "original_source": "s",
    "original_id": "e-1",
    "original_time": BEFORE,
    "run_id": "r-1",
    "operation": "api_call",
    "card": "default@1",
}
TAKEN = (
    "errors",
    "unpriced_runs",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "credits_micro",
    "duration_us",
    "request_bytes",
    "response_bytes",
    "latency_us",
)
SOUND: dict[str, dict[str, Any]] = {
    "organisation.registered": {"organisation_id": "o", "name": "O", "parent_id": "p"},
    "team.registered": {"team_id": "t", "organisation_id": "o", "name": "T", "zone": "Asia/Tokyo"},
    "user.registered": {"user_id": "u", "email": "u@example.org", "display_name": "U"},
    "membership.changed": {
        "user_id": "u",
        "team_id": "t",
        "role": "admin",
        "valid_from": TIME,
        "valid_until": AFTER,
    },
    "subscription.changed": {
        "team_id": "t",
        "plan_id": "p",
        "plan_version": 1,
        "starts_at": TIME,
        "ends_at": AFTER,
    },
    "credits.granted": {
        "team_id": "t",
        "grant_id": "g",
        "kind": "refund",
        "amount_micro": 1,
        "expires_at": AFTER,
        "refund_of": "r-1",
    },
    "limit.set": {
        "team_id": "t",
        "limit_id": "l",
        "version": 1,
        "subject": "team",
        "measure": "credits",
        "window": "balance",
        "amount": 1,
    },
    "usage.adjusted": {**ORIGINAL, "number": 1, "credits_micro": -1, "unpriced_runs": -1},
    "usage.voided": {
        **ORIGINAL,
        **dict.fromkeys(TAKEN, -1),
    },
    "rate-card.published": {
        "name": "default",
        "version": 1,
        "effective_from": TIME,
        "currency": "EUR",
        "prices": [{"model": "m", "amount": {"run_micro": 1}, "cost": {"run_micro": 1}}],
        "session_micro_per_second": {"small": 1},
        "session_amount_micro_per_second": {"small": 1},
    },
    "import.opened": {
        "team_id": "t",
        "import_id": "i",
        "source": "/old",
        "time_from": BEFORE,
        "time_to": TIME,
    },
}
BROKEN = [
    ("organisation.registered", {"parent_id": "o"}, Verdict.INCONSISTENT, "data: parent_id is"),
    ("team.registered", {"zone": "Mars/Olympus"}, Verdict.INVALID_TEXT, "data.zone: not the name"),
    ("team.registered", {"zone": "../etc/passwd"}, Verdict.INVALID_TEXT, "data.zone: text of"),
    ("user.registered", {"email": "nobody"}, Verdict.INVALID_TEXT, "data.email: text of"),
    ("membership.changed", {"team_id": None}, Verdict.INCONSISTENT, "data: exactly one of"),
    ("membership.changed", {"organisation_id": "o"}, Verdict.INCONSISTENT, "data: exactly one of"),
    ("membership.changed", {"valid_until": TIME}, Verdict.INCONSISTENT, "data: valid_until does"),
    (
        "subscription.changed",
        {"ends_at": BEFORE},
        Verdict.INCONSISTENT,
        "data: ends_at lies before",
    ),
    ("credits.granted", {"kind": "reward"}, Verdict.INCONSISTENT, "data: refund_of belongs"),
    ("credits.granted", {"expires_at": TIME}, Verdict.INCONSISTENT, "expires_at does not lie"),
    ("credits.granted", {"amount_micro": 0}, Verdict.OUT_OF_RANGE, "data.amount_micro: 1 or"),
    ("credits.granted", {"starts_at": AFTER}, Verdict.INCONSISTENT, "data: expires_at does not"),
    ("credits.granted", {"grant_id": "rollover/p"}, Verdict.INCONSISTENT, "data: grant_id begins"),
    ("subscription.changed", {"anchor_day": 32}, Verdict.OUT_OF_RANGE, "data.anchor_day"),
    ("subscription.changed", {"zone": "Mars"}, Verdict.INVALID_TEXT, "data.zone: not the name"),
    ("limit.set", {"limit_id": "credits"}, Verdict.INCONSISTENT, "data: limit_id: credits stands"),
    ("limit.set", {"enforcement": "hard"}, Verdict.INCONSISTENT, "data: enforcement: a balance"),
    ("usage.adjusted", {"number": 0}, Verdict.OUT_OF_RANGE, "data.number"),
    ("usage.adjusted", {"original_id": None}, Verdict.WRONG_TYPE, "data.original_id: text"),
    ("usage.voided", {"runs": 1}, Verdict.OUT_OF_RANGE, "data.runs"),
    ("usage.voided", {"latency_us": 1}, Verdict.OUT_OF_RANGE, "data.latency_us"),
    ("usage.voided", {"number": 1}, Verdict.UNKNOWN_FIELD, "data: a field"),
    ("rate-card.published", {"currency": None}, Verdict.INCONSISTENT, "data: amount and cost need"),
    (
        "rate-card.published",
        {"session_cost_micro_per_second": {"large": 1}},
        Verdict.INCONSISTENT,
        "data: session_micro_per_second does not name",
    ),
    ("import.opened", {"time_to": BEFORE}, Verdict.INCONSISTENT, "data: time_to does not"),
]


def read(kind: str, data: dict[str, Any]) -> None:
    """Read an event with this `data`."""
    name = f"meterstream.{kind}.v1"
    topic = next(topic for topic, models in MODELS.items() if name in models)
    event = {"specversion": "1.0", "type": name, "id": "1", "source": "s", "time": TIME}
    parse_event(json.dumps({**event, "data": data}).encode(), topic)


@pytest.mark.parametrize("kind", SOUND)
def test_sound_events_pass(kind: str) -> None:
    """Without the fault each of these events is accepted."""
    read(kind, SOUND[kind])


@pytest.mark.parametrize(("kind", "fault", "verdict", "detail"), BROKEN)
def test_each_rule_is_held(kind: str, fault: dict[str, Any], verdict: Verdict, detail: str) -> None:
    """An event with one fault is refused for that fault."""
    with pytest.raises(InvalidEvent) as refused:
        read(kind, SOUND[kind] | fault)
    assert (refused.value.verdict, refused.value.detail[: len(detail)]) == (verdict, detail)


def test_python_callers_give_aware_times() -> None:
    """A datetime with an offset is taken as its moment in UTC, one without is refused."""
    data = UserRegisteredData(user_id="u", email="u@example.org", display_name="U")
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    event = UserRegistered(id="1", source="s", time=east, data=data)
    assert event.time == datetime(2026, 1, 1, tzinfo=UTC)
    assert event.time.tzinfo is UTC
    with pytest.raises(ValidationError, match="a time needs an offset or UTC"):
        UserRegistered(id="1", source="s", time=east.replace(tzinfo=None), data=data)
