"""What an email says of each type of threshold event: its subject and its text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, assert_never

from meterstream.schemas.thresholds import (
    CreditsExhausted,
    CreditsExpiring,
    CreditsLow,
    LimitBlocked,
    LimitReset,
    ResetReason,
    ThresholdEvent,
    ThresholdReached,
)
from meterstream.schemas.times import format_rfc3339

MICRO: Final = 1_000_000
_UNITS: Final = {
    "credits": "credits",
    "tokens": "tokens",
    "runs": "runs",
    "api_calls": "API calls",
    "sessions": "sessions",
}

RESET_REASONS: Final[dict[ResetReason, str]] = {
    "window": "a new window has begun",
    "changed": "the limit was set anew",
    "removed": "the limit was removed",
    "corrected": "usage was corrected",
    "credited": "credits were granted",
}


@dataclass(frozen=True, slots=True)
class Words:
    """One message."""

    subject: str
    text: str


def words_of(event: ThresholdEvent) -> Words:
    """Return what to say of an event."""
    subject, facts = _told(event)
    rows = [*facts, ("Time", format_rfc3339(event.time)), ("Event", event.id)]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name + ':':{width}}{text}" for name, text in rows]
    return Words(subject, "\n".join([f"{subject}.", "", *lines, ""]))


def percent(permille: int) -> str:
    """Return thousandths as a percentage: 800 is `80 %`, 805 is `80.5 %`."""
    whole, tenths = divmod(permille, 10)
    return f"{whole}.{tenths} %" if tenths else f"{whole} %"


def credits_text(micro: int) -> str:
    """Return an amount of credits, exactly: 1234500000 is `1,234.5`."""
    whole, rest = divmod(abs(micro), MICRO)
    fraction = f".{rest:06}".rstrip("0").rstrip(".")
    return f"{'-' if micro < 0 else ''}{whole:,}{fraction}"


def amount(measure: str, value: int) -> str:
    """Return an amount with its unit; credits are given in millionths."""
    number = credits_text(value) if measure == "credits" else f"{value:,}"
    return f"{number} {_UNITS[measure]}"


def _told(event: ThresholdEvent) -> tuple[str, list[tuple[str, str]]]:
    """Return the subject and the facts below it."""
    data = event.data
    match event:
        case ThresholdReached():
            subject = (
                f"{_who(data)} has used {percent(event.data.level_permille)}"
                f" of limit {event.data.limit_id}"
            )
            return subject, [*_limit(data), *_cause(data)]
        case LimitBlocked():
            subject = f"{_who(data)} has reached limit {event.data.limit_id} and is blocked"
            return subject, [*_limit(data), *_cause(data)]
        case LimitReset():
            subject = f"{_who(data)} is admitted again by limit {event.data.limit_id}"
            reason = ("Reason", RESET_REASONS[event.data.reason])
            return subject, [reason, *_limit(data), *_cause(data)]
        case CreditsLow():
            left = credits_text(event.data.balance_micro)
            facts = [("Balance", f"{left} credits"), ("Level", percent(event.data.level_permille))]
            facts += [*_limit(data), *_cause(data)]
            return f"{_who(data)} has {left} credits left", facts
        case CreditsExhausted():
            facts = [
                ("Balance", f"{credits_text(event.data.balance_micro)} credits"),
                ("Overdraft", f"{credits_text(event.data.overdraft_micro)} credits"),
            ]
            return f"{_who(data)} has used up its credits", [*facts, *_cause(data)]
        case CreditsExpiring():
            left, until = credits_text(event.data.left_micro), format_rfc3339(event.data.expires_at)
            facts = [("Grant", event.data.grant_id), ("Left", f"{left} credits"), ("Until", until)]
            return f"{left} credits of {_who(data, 'team')} expire on {until[:10]}", facts
        case _:
            assert_never(event)


def _who(data: Any, team: str = "Team") -> str:
    """Name whom an event is about: a team, or one of its users, agents, projects or features."""
    organisation = getattr(data, "organisation_id", None)
    owner = f"{team} {data.team_id}" if organisation is None else f"Organisation {organisation}"
    subject_id = getattr(data, "subject_id", None)
    if subject_id is None:
        return owner
    return f"{data.subject.capitalize()} {subject_id} of {owner[0].lower()}{owner[1:]}"


def _limit(data: Any) -> Iterator[tuple[str, str]]:
    yield "Limit", f"{data.limit_id}, version {data.limit_version}"
    yield "Used", f"{amount(data.measure, data.used)} of {amount(data.measure, data.amount)}"
    window = data.window
    if data.window_start is not None:
        window += f", from {format_rfc3339(data.window_start)}"
    if data.window_end is not None:
        window += f" until {format_rfc3339(data.window_end)}"
    yield "Window", window


def _cause(data: Any) -> Iterator[tuple[str, str]]:
    if data.cause is not None:
        yield "Crossed by", f"{data.cause.id} from {data.cause.source}"
