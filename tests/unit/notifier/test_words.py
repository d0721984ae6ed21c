"""What an email says of each type of event."""

import json
from typing import Any

import pytest
from tests.support.notices import CAUSE, LIMIT, REACHED, threshold_event

from meterstream.notifier.rules import TYPES
from meterstream.notifier.words import amount, credits_text, percent, words_of
from meterstream.schemas.registry import parse_event
from meterstream.schemas.thresholds import ThresholdEvent
from meterstream.schemas.topics import THRESHOLDS

USER = {**REACHED, "subject": "user", "subject_id": "ada", "measure": "tokens", "amount": 10_000}
ORGANISATION = {
    key: value for key, value in REACHED.items() if key not in {"team_id", "subject"}
} | {"organisation_id": "acme", "subject": "organisation"}
BALANCE = {
    **LIMIT,
    "window": "balance",
    "window_end": None,
    "level_permille": 900,
    "used": 900_000_000,
    "balance_micro": 100_000_000,
}
EXHAUSTED = {"team_id": "team-1", "balance_micro": -2_500_000, "overdraft_micro": 2_500_000}
EXPIRING = {
    "team_id": "team-1",
    "grant_id": "g-7",
    "left_micro": 12_500_000,
    "expires_at": "2026-12-24T00:00:00Z",
}

SAID: list[tuple[str, dict[str, Any], str, list[str]]] = [
    (
        "usage.threshold.reached",
        REACHED,
        "Team team-1 has used 80 % of limit monthly-cap",
        [
            "Limit: monthly-cap, version 3",
            "Used: 800.000001 credits of 1,000 credits",
            "Window: month, from 2026-11-01T00:00:00Z until 2026-12-01T00:00:00Z",
            "Crossed by: run-4711 from /services/chat",
        ],
    ),
    (
        "usage.threshold.reached",
        {**USER, "used": 8_050, "level_permille": 805},
        "User ada of team team-1 has used 80.5 % of limit monthly-cap",
        ["Used: 8,050 tokens of 10,000 tokens"],
    ),
    (
        "usage.threshold.reached",
        ORGANISATION,
        "Organisation acme has used 80 % of limit monthly-cap",
        [],
    ),
    (
        "limit.blocked",
        {**LIMIT, "used": 1_000_000_000},
        "Team team-1 has reached limit monthly-cap and is blocked",
        ["Used: 1,000 credits of 1,000 credits"],
    ),
    (
        "limit.reset",
        {**LIMIT, "used": 0, "reason": "credited", "cause": CAUSE},
        "Team team-1 is admitted again by limit monthly-cap",
        ["Reason: credits were granted", "Used: 0 credits of 1,000 credits"],
    ),
    (
        "credits.low",
        BALANCE,
        "Team team-1 has 100 credits left",
        ["Balance: 100 credits", "Level: 90 %", "Window: balance, from 2026-11-01T00:00:00Z"],
    ),
    (
        "credits.exhausted",
        EXHAUSTED,
        "Team team-1 has used up its credits",
        ["Balance: -2.5 credits", "Overdraft: 2.5 credits"],
    ),
    (
        "credits.expiring",
        EXPIRING,
        "12.5 credits of team team-1 expire on 2026-12-24",
        ["Grant: g-7", "Left: 12.5 credits", "Until: 2026-12-24T00:00:00Z"],
    ),
]


def event_of(kind: str, data: dict[str, Any]) -> ThresholdEvent:
    """Return the event as it is read from the topic."""
    event = parse_event(json.dumps(threshold_event(kind, **data)).encode(), THRESHOLDS)
    assert isinstance(event, ThresholdEvent)
    return event


@pytest.mark.parametrize(("kind", "data", "subject", "lines"), SAID)
def test_what_is_said(kind: str, data: dict[str, Any], subject: str, lines: list[str]) -> None:
    """A subject that says it all, and the facts below it, with exact amounts and units."""
    words = words_of(event_of(kind, data))
    assert words.subject == subject
    text = [" ".join(line.split()) for line in words.text.splitlines()]
    assert text[:2] == [f"{subject}.", ""]
    assert set(lines) <= set(text)
    assert "None" not in words.text
    assert text[-1].startswith("Event:")


def test_every_type_has_its_words() -> None:
    """No type of the contract is without an example here."""
    assert {f"meterstream.{kind}.v1" for kind, *_ in SAID} == set(TYPES)


def test_amounts_are_exact() -> None:
    """Amounts are written from integers, whatever their size."""
    assert credits_text(9_223_372_036_854_775_807) == "9,223,372,036,854.775807"
    assert credits_text(-1) == "-0.000001"
    assert credits_text(0) == "0"
    assert amount("api_calls", 1_234_567) == "1,234,567 API calls"
    assert (percent(1), percent(1000), percent(1255)) == ("0.1 %", "100 %", "125.5 %")
